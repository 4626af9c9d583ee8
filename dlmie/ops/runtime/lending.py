"""Arrays in blocks of ``memory.c``, for operations that compute in Python."""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable

import numpy as np

from dlmie.ops.runtime import library


def lent(size: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialized array: (size,), whose block is kept for the next one when it dies.

    A large array that is made anew for every call costs as many page faults each time.

    Raises
    ------
    MemoryError
    """
    take, give = _pool()
    wanted, actual = max(size * dtype.itemsize, 1), ctypes.c_size_t()
    address = take(wanted, ctypes.byref(actual))
    if not address:
        raise MemoryError(f"no memory for {wanted} bytes")
    block = (ctypes.c_char * wanted).from_address(address)  # held by every view of the array
    weakref.finalize(block, give, address, actual.value)
    return np.frombuffer(memoryview(block), dtype, size)


@functools.cache
def _pool() -> tuple[Callable[..., int | None], Callable[..., None]]:
    functions = library.load()
    take, give = functions.dlmie_take, functions.dlmie_give
    take.restype, take.argtypes = ctypes.c_void_p, [ctypes.c_size_t, ctypes.c_void_p]
    give.restype, give.argtypes = None, [ctypes.c_void_p, ctypes.c_size_t]
    return take, give
