"""Model files: named arrays and a JSON header in one HDF5 file, loaded all or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files import atomic, hdf5
from dlmie.files.hdf5 import DAMAGE
from dlmie.files.headers import Kind, check_kind, read_header

if TYPE_CHECKING:
    import h5py

KIND = Kind("dlmie-model", 1, "a dlmie model", "dlmie train")


def save(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
    *,
    compress: bool = False,
) -> Path:
    """Write named arrays and a header; see :func:`dlmie.files.atomic.replacing`.

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
    full = {**header, "format": KIND.format, "version": KIND.version}
    return atomic.write(path, _file_image(arrays, full, compress))


def _file_image(
    arrays: Mapping[str, np.ndarray], header: Mapping[str, Any], compress: bool
) -> bytes:
    text = json.dumps(header, sort_keys=True)

    def fill(file: h5py.File) -> None:
        # A dataset, not an attribute: those end at 64 KiB and a vocabulary may be longer.
        _store(file, "header", np.frombuffer(text.encode(), dtype=np.uint8), compress=False)
        group = file.create_group("arrays")
        for name in sorted(arrays):
            _store(group, name.strip("/"), arrays[name], compress)

    # Earlier versions of the format spend 2 KB on the index of a chunk.
    return hdf5.file_image(fill, block_size=1 << 22, libver=("v110", "v110"))


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
    import h5py

    with _opened(path) as file:
        header = _header(path, file)
        try:
            arrays = {
                f"/{name}": hdf5.numbers(item)
                for name, _, item in hdf5.entries(file["arrays"])
                if isinstance(item, h5py.Dataset)
            }
        except DAMAGE as error:
            raise WeightsError(f"{path} is damaged ({error}): copy or train it again") from error
    return header, arrays


def load_header(path: str | Path) -> dict[str, Any]:
    """The JSON header alone: cheap, for ``dlmie inspect``."""
    with _opened(path) as file:
        return _header(path, file)


def _opened(path: str | Path) -> h5py.File:
    if not Path(path).exists():
        raise WeightsError(f"{path} does not exist")
    return hdf5.open_hdf5(
        path, WeightsError, what="a complete dlmie model file", fix="copy or train it again"
    )


def _header(path: str | Path, file: h5py.File) -> dict[str, Any]:
    try:
        header = read_header(file, path)
    except DAMAGE as error:
        raise WeightsError(
            f"{path} ({Path(path).stat().st_size:,} bytes) is not a complete dlmie model file: "
            "it may be damaged, or of another program; copy it again"
        ) from error
    check_kind(header, KIND, path, WeightsError)
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
