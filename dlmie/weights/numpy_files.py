"""NumPy's `.npz` and `.npy`, and pickled dictionaries of arrays such as `vgg16.npy`.

`np.load(..., allow_pickle=True)` would execute what an object array asks for; here object arrays
go through the restricted reader of `dlmie.files.pickles`.
"""

from __future__ import annotations

import ast
import re
import zipfile
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.arrays import (
    array_over,
    checked_shape,
    numeric_dtype,
    read_exactly,
)
from dlmie.files.limits import check_declared
from dlmie.files.number_types import native
from dlmie.files.pickles import RestrictedUnpickler
from dlmie.weights.containers import flatten

MAX_HEADER = 10_000  # bytes; NumPy's own limit, because literal_eval is slow on long texts

# A mark, an empty list or dictionary, or a name to import.
_OLD_PICKLE = re.compile(rb"[(\]}]|c[\w.]+\n")


def read_npy(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """A `.npy` file: one array, called `arr_0`, or the containers that an object array holds."""
    return flatten(_npy(file, size))


def read_npz(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """A `.npz` file: its members by name."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        arrays = [member for member in members if member.filename.endswith(".npy")]
        if not arrays:
            raise WeightsError(_no_arrays([member.filename for member in members]))
        check_declared(sum(member.file_size for member in arrays), size, WeightsError)
        tree = {}
        for member in arrays:
            with archive.open(member) as stream:
                tree[member.filename.removesuffix(".npy")] = _npy(stream, member.file_size)
    return flatten(tree)


def read_pickle(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """A bare pickle of arrays and containers, of Python 2 or 3."""
    return flatten(RestrictedUnpickler(file, size).load())


def is_pickle(head: bytes, tail: bytes) -> bool:
    """Whether a file starts like a pickle; the oldest have no mark but the full stop at the end."""
    return head.startswith(b"\x80") or bool(tail == b"." and _OLD_PICKLE.match(head))


def _npy(file: IO[bytes], size: int) -> Any:
    """The array of a `.npy` stream; for an object array, what the restricted reader makes of it."""
    magic = read_exactly(file, 8, size)
    if magic[:6] != b"\x93NUMPY":
        raise WeightsError("has a member that is no .npy array")
    version = magic[6]
    if version not in (1, 2, 3):
        raise WeightsError(f"is in version {version} of the .npy format; dlmie reads 1 to 3")
    width = 2 if version == 1 else 4
    length = int.from_bytes(read_exactly(file, width, size), "little")
    if length > MAX_HEADER:
        raise WeightsError(f"has a .npy header of {length:,} bytes; refused")
    text = read_exactly(file, length, size).decode("utf-8" if version == 3 else "latin1")
    header = ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text).strip())  # Python 2 wrote 3L for 3
    descr, shape = header["descr"], checked_shape(header["shape"])
    if descr in ("|O", "O"):
        return RestrictedUnpickler(file, size).load()
    data = read_exactly(file, size - 8 - width - length, size)
    fortran = header["fortran_order"] is True
    return native(array_over(data, numeric_dtype(descr), shape, fortran=fortran))


def _no_arrays(names: list[str]) -> str:
    return f"is a zip archive without arrays: it holds {', '.join(names[:3])}"
