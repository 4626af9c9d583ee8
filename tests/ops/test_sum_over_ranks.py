"""Sums over ranks in a graph, with ranks that are only pretended."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.ops.collectives.sum_over_ranks import SumOverRanks, sum_over_ranks
from dlmie.parallel import Ranks


class Doubles(Ranks):
    """Two ranks that compute the same."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.messages = 2, []

    def add(self, buffer: np.ndarray) -> np.ndarray:
        self.messages.append((str(buffer.dtype), buffer.size))
        buffer *= 2
        return buffer

    def add_in_order(self, buffer: np.ndarray) -> np.ndarray:
        return self.add(buffer)


@pytest.mark.parametrize("ordered", [False, True])
def test_one_message_for_each_dtype(ordered: bool) -> None:
    ranks = Doubles()
    a, b, n = pt.fmatrix("a"), pt.fvector("b"), pt.lscalar("n")
    run = dlmie.function([a, b, n], sum_over_ranks([a, b, n], ranks, ordered=ordered))
    values = [np.arange(6, dtype="f4").reshape(2, 3), np.ones(4, "f4"), 3]
    for _ in range(2):
        for found, value in zip(run(*values), values, strict=True):
            np.testing.assert_array_equal(found, 2 * np.asarray(value))
    assert ranks.messages == 2 * [("float32", 10), ("int64", 1)]


def test_with_one_rank_nothing_is_inserted() -> None:
    a = pt.fvector("a")
    assert sum_over_ranks([a], Ranks()) == [a]
    assert sum_over_ranks([], Doubles()) == []


def test_what_was_kept_of_a_sum_stays() -> None:
    """A shared variable that took its value from a sum is not overwritten by the next one."""
    kept, x = pytensor.shared(np.zeros(3, "f4")), pt.fvector("x")
    (summed,) = sum_over_ranks([x], Doubles())
    run = dlmie.function([x], [summed.sum()], updates=[(kept, summed * np.float32(3))])
    run(np.ones(3, "f4"))
    value = kept.get_value(borrow=True)
    other = dlmie.function([x], [summed.sum()])
    other(np.full(3, 7, "f4"))
    np.testing.assert_array_equal(value, [6, 6, 6])


def test_no_gradient_passes() -> None:
    x = pt.fvector("x")
    (weight,) = sum_over_ranks([x.sum()], Doubles())
    (slope,) = pytensor.grad((x**2).sum() / weight, [x])
    run = dlmie.function([x], slope)
    np.testing.assert_allclose(run(np.array([1, 3], "f4")), np.array([2, 6]) / 8)


def test_operations_of_the_same_ranks_are_equal() -> None:
    ranks = Doubles()
    assert SumOverRanks(ranks) == SumOverRanks(ranks) != SumOverRanks(ranks, ordered=True)
