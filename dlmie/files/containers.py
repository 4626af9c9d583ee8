"""Model files: named arrays and a JSON header in one HDF5 file, loaded all or nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.errors import DlmieError, WeightsError

FORMAT = "dlmie-model"
VERSION = 1


def save(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    *,
    compress: bool = False,
) -> Path:
    """Write named arrays and a header under a temporary name, then rename.

    Parameters
    ----------
    path : path
        The file; an existing one is replaced only when the new one is complete.
    arrays : mapping
        Arrays by name (``/decoder/lstm/W``).
    header : mapping
        Anything JSON can hold: configuration, vocabulary, preprocessing, encoder, data hash.
    compress : bool
        Spend time on a smaller file: for models to hand out, not for checkpoints.

    Raises
    ------
    DlmieError
        The disk is full or the folder cannot be written; nothing is left behind.
    """
    full = {**header, "format": FORMAT, "version": VERSION}
    return write(path, _file_image(arrays, full, compress))


def write(path: str | Path, content: bytes) -> Path:
    """Write any file under a temporary name, then rename; raises as :func:`save` does."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    return path


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what writing a file may raise into one line that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        reason = "the disk is full" if full else error.strerror or str(error)
        raise DlmieError(
            f"{path} was not written: {reason}; free some space or name another "
            "folder (an earlier version of the file is untouched)"
        ) from error


def _file_image(
    arrays: Mapping[str, np.ndarray], header: Mapping[str, Any], compress: bool
) -> bytes:
    """The HDF5 file as bytes, made in memory.

    The library that writes HDF5 does not survive a disk that fills up meanwhile: what it could not
    write it tries again when the process ends, and fails where nobody can catch it.
    """
    import h5py

    text = json.dumps(header, sort_keys=True)
    options: dict[str, Any] = {"driver": "core", "backing_store": False, "block_size": 1 << 22}
    options["libver"] = ("v110", "v110")  # earlier ones spend 2 KB on the index of a chunk
    with h5py.File("in memory", "w", **options) as file:
        # A dataset, not an attribute: those end at 64 KiB and a vocabulary may be longer.
        _store(file, "header", np.frombuffer(text.encode(), dtype=np.uint8), compress=False)
        group = file.create_group("arrays")
        for name in sorted(arrays):
            _store(group, name.strip("/"), arrays[name], compress)
        file.flush()
        return file.id.get_file_image()


def _store(group: Any, name: str, array: np.ndarray, compress: bool) -> None:
    """One array, with a checksum unless it is a scalar: a byte that changed is an error."""
    filters: dict[str, Any] = {}
    if array.ndim and array.size:
        # In one chunk, but for HDF5's limit of 4 GiB: less to compress at once compresses less.
        filters = {"fletcher32": True, "chunks": array.shape if array.nbytes < 2**32 else True}
        if compress:
            # Exponents repeat, fractions do not: sorted by byte, half of the bytes compress.
            filters |= {"compression": 9, "shuffle": True}
    group.create_dataset(name, data=array, **filters)


def load(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a model file.

    Raises
    ------
    WeightsError
        Not a model file, truncated, or written by a later version of dlmie.
    """
    header = load_header(path)
    import h5py

    arrays: dict[str, np.ndarray] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays["/" + name] = np.asarray(item[()])

    try:
        with h5py.File(path, "r") as file:
            file["arrays"].visititems(collect)
    except (OSError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{path} is damaged ({error}): copy or train it again") from error
    return header, arrays


def load_header(path: str | Path) -> dict[str, Any]:
    """The JSON header alone: cheap, for ``dlmie inspect``."""
    import h5py

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    try:
        with h5py.File(path, "r") as file:
            text = file["header"][()]
        header = json.loads(text if isinstance(text, bytes) else np.asarray(text, "u1").tobytes())
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        size = path.stat().st_size
        raise WeightsError(
            f"{path} ({size:,} bytes) is not a complete dlmie model file: "
            "it may be truncated, or of another program; copy it again"
        ) from error
    header = header if isinstance(header, dict) else {}
    version, found = header.get("version"), header.get("format", "HDF5")
    if not isinstance(version, int) or found != FORMAT:
        raise WeightsError(f"{path} is a {found} file, not a dlmie model")
    if version > VERSION:
        raise WeightsError(
            f"{path} has format version {version}, this dlmie reads up to {VERSION}: "
            "upgrade with pip install -U dlmie"
        )
    return header


def assign(variables: Iterable[Any], arrays: Mapping[str, np.ndarray], source: str | Path) -> None:
    """Set shared variables from arrays of the same names: all of them or, on any mismatch, none.

    Raises
    ------
    WeightsError
        One message that lists every missing, unknown and misshapen array.
    """
    wanted = {str(v.name): v for v in variables}
    problems = [f"{name} is missing" for name in sorted(set(wanted) - set(arrays))]
    problems += [f"{name} is not part of the model" for name in sorted(set(arrays) - set(wanted))]
    values = {}
    for name in sorted(set(wanted) & set(arrays)):
        current, array = wanted[name].get_value(borrow=True), arrays[name]
        dtype = np.asarray(current).dtype
        if np.shape(current) != array.shape:
            problems.append(f"{name} has shape {array.shape}, the model has {np.shape(current)}")
        elif not np.can_cast(array.dtype, dtype, casting="same_kind"):
            problems.append(f"{name} is {array.dtype}, the model has {dtype}")
        else:
            values[name] = np.asarray(array, dtype=dtype)
    if problems:
        raise WeightsError(f"{source} does not fit the model: " + "; ".join(problems))
    for name, value in values.items():
        wanted[name].set_value(value)
