"""What a file may claim of its arrays: element types, shapes, and data that it has."""

from __future__ import annotations

import math
import re
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError

_NUMERIC = re.compile(r"[<>=|]?[biufc]\d{1,2}")


def numeric_dtype(code: Any) -> np.dtype[Any]:
    """The NumPy type of a code like `<f4`; booleans, integers, floats and complex numbers only."""
    if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
        raise WeightsError(f"holds elements of type {ascii(code)[:40]}; only numbers are read")
    return np.dtype(code)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """`shape` as a tuple of whole numbers that are not negative."""
    if not isinstance(shape, tuple | list) or len(shape) > 64:  # NumPy's own limit
        raise WeightsError("declares an array whose shape is not a row of numbers")
    if any(type(n) is not int or not 0 <= n < 2**63 for n in shape):
        raise WeightsError("declares an array whose sizes are no whole numbers from 0 on")
    return tuple(shape)


def array_over(
    data: bytes | bytearray | memoryview, dtype: np.dtype[Any], shape: Any, *, fortran: bool = False
) -> np.ndarray:
    """An array that shares `data`, which must hold exactly `shape` elements of `dtype`."""
    shape = checked_shape(shape)
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise WeightsError(
            f"is damaged: an array of shape {shape} needs {needed:,} bytes, {len(data):,} are there"
        )
    array: np.ndarray = np.ndarray(shape, dtype, data, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def read_exactly(file: IO[bytes], count: int, size: int) -> bytes:
    """The next `count` bytes of a file of `size` bytes, or `EOFError` before allocating them."""
    data = file.read(count) if 0 <= count <= size else b""
    if len(data) != count:
        raise EOFError(f"{count:,} bytes announced, {len(data):,} left")
    return data


class Bounded:
    """A binary file whose reads come back whole or raise `EOFError`; never larger than the file.

    (`file.read(2**60)` would try to allocate that much before looking whether it is there.)
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self.size = file, size

    def read(self, count: int) -> bytes:
        return read_exactly(self._file, count, self.size)

    def readline(self) -> bytes:
        return self._file.readline()
