"""A row of ``dlmie bench``: k nearest neighbors beside scikit-learn and plain NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.agreement import Disagreement
from benchmarks.timing import Budget, Entry, timed
from dlmie.models import KNearest

#: The course's: 500 images of CIFAR-10 among 5,000.
ASKED, REMEMBERED, PIXELS, NEAREST = 500, 5000, 3072, 10
BUDGET = Budget()


def by_numpy(asked: np.ndarray, remembered: np.ndarray, k: int) -> np.ndarray:
    """What a student writes without loops: one product in double precision, and a whole sort."""
    a, b = asked.astype(float), remembered.astype(float)
    squared = (a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)
    nearest: np.ndarray = squared.argsort(axis=1, kind="stable")[:, :k]
    return nearest


def knn(
    asked: int = ASKED,
    remembered: int = REMEMBERED,
    pixels: int = PIXELS,
    budget: Budget = BUDGET,
) -> Entry:
    """The ten nearest of 5,000 images for each of 500, and that all three find the same ones."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (n, pixels), np.uint8) for n in (asked, remembered))
    ours = KNearest(b, np.zeros(len(b), np.int64))
    # What is cheapest for scikit-learn: single precision, brute force; it has seen the images.
    theirs = NearestNeighbors(n_neighbors=NEAREST, algorithm="brute").fit(b.astype(np.float32))
    runs: dict[str, Callable[[], np.ndarray]] = {
        "dlmie_s": lambda: ours.neighbors(a, NEAREST),
        "sklearn_s": lambda: theirs.kneighbors(a.astype(np.float32), return_distance=False),
        "numpy_s": lambda: by_numpy(a, b, NEAREST),
    }
    found = {column: run() for column, run in runs.items()}
    if not np.array_equal(found["dlmie_s"], found["numpy_s"]):
        raise Disagreement("dlmie and NumPy find other neighbors")
    # Of distances that float32 cannot tell apart, scikit-learn may take another.
    same = float((found["dlmie_s"] == found["sklearn_s"]).mean())
    if same < 0.99:
        raise Disagreement(f"scikit-learn finds other neighbors: {same:.1%} are the same")
    return timed(runs, budget)


ROWS = {"knn": knn}
