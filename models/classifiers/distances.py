"""Distances between all images of two sets: in bounded memory, and exact for pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from dlmie.errors import DlmieError
from dlmie.text import suggest

Metric = Literal["l2", "l1"]
METRICS = ("l2", "l1")

#: Bytes of the distances that are computed at once.
BLOCK = 32 * 2**20
# So many products of whole numbers of at most 128 sum up to no more than 2²⁴: exact in float32.
_EXACT = 1024


def distances(a: np.ndarray, b: np.ndarray, metric: Metric = "l2") -> np.ndarray:
    """The distance of every row of ``a`` from every row of ``b``.

    Parameters
    ----------
    a, b : (n, ...), (m, ...)
        Of equal shape but for their number; pixels (uint8) or numbers.
    metric : str
        "l2": ``√Σ (a - b)²``; "l1": ``Σ |a - b|``.

    Returns
    -------
    (n, m) float64

    Raises
    ------
    DlmieError
        An unknown metric, or rows of different length.

    Examples
    --------
    >>> a = np.array([[0, 0], [3, 4]], np.uint8)
    >>> distances(a, a).tolist(), distances(a, a, "l1").tolist()
    ([[0.0, 5.0], [5.0, 0.0]], [[0.0, 7.0], [7.0, 0.0]])
    """
    result = np.empty((len(a), len(b)))
    for rows, block in in_blocks(a, b, metric):
        result[rows] = block if metric == "l1" else np.sqrt(block)
    return result


def in_blocks(
    a: np.ndarray, b: np.ndarray, metric: Metric = "l2"
) -> Iterator[tuple[slice, np.ndarray]]:
    """Which rows of ``a``, and their distances from all of ``b``; *squared* ones of "l2".

    A block takes `BLOCK` bytes. Parameters are those of :func:`distances`.
    """
    if metric not in METRICS:
        raise DlmieError(f"there is no metric {metric!r}{suggest(metric, METRICS)}")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if a.shape[1] != b.shape[1]:
        raise DlmieError(f"rows of {a.shape[1]:,} and of {b.shape[1]:,} numbers have no distance")
    measure = _absolute(b) if metric == "l1" else _squared(b)
    rows = max(1, BLOCK // (8 * max(len(b), 1)))
    for start in range(0, len(a), rows):
        yield slice(start, start + rows), measure(a[start : start + rows])


def _absolute(b: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.spatial.distance import cdist

    numbers = b.astype(np.float64)
    return lambda a: np.asarray(cdist(a.astype(np.float64), numbers, "cityblock"))


def _squared(b: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """``Σ a² - 2 Σ a b + Σ b²`` with one product of matrices, the second one prepared.

    Of pixels it is exact, though the product is in single precision, the fastest there is: moved
    to -128 … 127 they are multiplied 1,024 columns at a time, and no sum exceeds 2²⁴.
    """
    exact = b.dtype == np.uint8
    numbers = _centered(b) if exact else b.astype(np.float64)
    squares = _squares(numbers)
    step = _EXACT if exact else max(numbers.shape[1], 1)

    def measure(a: np.ndarray) -> np.ndarray:
        if exact and a.dtype != np.uint8:
            raise DlmieError("both sets of images must be pixels, or both numbers")
        mine = _centered(a) if exact else a.astype(np.float64)
        result = np.add.outer(_squares(mine), squares)
        for start in range(0, numbers.shape[1], step):
            columns = slice(start, start + step)
            product = mine[:, columns] @ numbers[:, columns].T
            product *= 2
            result -= product
        # Rounding may leave less than nothing of equal rows.
        return result if exact else np.maximum(result, 0, out=result)

    return measure


def _centered(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels, np.float32) - np.float32(128)


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x, dtype=np.float64)


def with_one_loop(a: np.ndarray, b: np.ndarray, metric: Metric = "l2") -> np.ndarray:
    """:func:`distances` row by row, as the course asks for it: a loop over ``a``."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    result = np.empty((len(a), len(b)))
    for i, row in enumerate(a):
        gap = b - row
        result[i] = np.abs(gap).sum(axis=1) if metric == "l1" else np.sqrt((gap * gap).sum(axis=1))
    return result


def with_two_loops(a: np.ndarray, b: np.ndarray, metric: Metric = "l2") -> np.ndarray:
    """:func:`distances` pair by pair, as the course asks for it: the definition, slowly."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    result = np.empty((len(a), len(b)))
    for i, j in np.ndindex(result.shape):
        gap = a[i] - b[j]
        result[i, j] = np.abs(gap).sum() if metric == "l1" else np.sqrt((gap * gap).sum())
    return result
