"""Arrays of memory.c's blocks, for operations in Python."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from dlmie.ops.runtime import library
from dlmie.ops.runtime.lending import lent

SIZE = 1_000_000


@pytest.fixture(autouse=True)
def empty_pool() -> Iterator[None]:
    for limit in (0, 1 << 31):
        library.load().dlmie_limit_idle(limit)
    yield
    for limit in (0, 1 << 31):
        library.load().dlmie_limit_idle(limit)


def test_a_block_is_kept_for_the_next_array() -> None:
    array = lent(SIZE, np.dtype("f4"))
    assert (array.shape, array.dtype, array.ctypes.data % 64) == ((SIZE,), np.float32, 0)
    address = array.ctypes.data
    del array
    gc.collect()
    assert lent(SIZE, np.dtype("f4")).ctypes.data == address


def test_a_view_holds_the_block() -> None:
    array = lent(SIZE, np.dtype("f8"))
    array[:] = 3
    view, address = array[7:9].reshape(2, 1), array.ctypes.data
    del array
    gc.collect()
    other = lent(SIZE, np.dtype("f8"))
    other[:] = 4
    assert other.ctypes.data != address
    np.testing.assert_array_equal(view, [[3], [3]])


def test_no_numbers_at_all() -> None:
    assert lent(0, np.dtype("i8")).shape == (0,)
