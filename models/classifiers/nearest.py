"""k nearest neighbors: images are what those are that resemble them most, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.errors import DlmieError
from dlmie.models.classifiers.distances import METRICS, Metric, distances, in_blocks
from dlmie.text import suggest


class KNearest:
    """A classifier that only remembers: the k nearest training images vote (Fix and Hodges 1951).

    Where votes are equal, the smallest label wins; of images equally near, the first. Memory is
    bounded: distances are computed, and forgotten, block by block.

    Parameters
    ----------
    images : (n, rows, columns, channels) uint8, or (n, ...) numbers
        That it remembers.
    labels : (n,) integers
    metric : str
        "l2" or "l1".

    Raises
    ------
    DlmieError
        No images, another number of labels, or an unknown metric.

    Examples
    --------
    >>> images = np.array([[[[0]]], [[[10]]], [[[200]]]], np.uint8)
    >>> KNearest(images, np.array([1, 1, 0])).predict(np.array([[[[90]]]], np.uint8), k=1).tolist()
    [1]
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, *, metric: Metric = "l2") -> None:
        if not len(images) or len(images) != len(labels):
            raise DlmieError(f"{len(images)} images and {len(labels)} labels are no training set")
        if metric not in METRICS:
            raise DlmieError(f"there is no metric {metric!r}{suggest(metric, METRICS)}")
        self.images, self.labels, self.metric = images, np.asarray(labels, np.int64), metric

    def distances(self, images: np.ndarray) -> np.ndarray:
        """How far images are from the remembered ones: (images, remembered) float64."""
        return distances(images, self.images, self.metric)

    def neighbors(self, images: np.ndarray, k: int) -> np.ndarray:
        """The remembered images nearest to each image, the nearest first: (images, k) int64."""
        if not 1 <= k <= len(self.images):
            raise DlmieError(f"k is {k}; there are {len(self.images):,} images to choose from")
        found = np.empty((len(images), k), np.int64)
        for rows, block in in_blocks(images, self.images, self.metric):
            found[rows] = nearest(block, k)
        return found

    def predict(self, images: np.ndarray, *, k: int = 5) -> np.ndarray:
        """The label of each image, by the vote of its k nearest: (images,) int64."""
        return self.predict_all(images, [k])[0]

    def predict_all(self, images: np.ndarray, ks: Sequence[int]) -> list[np.ndarray]:
        """The labels for each of several k, of distances that are computed once."""
        labels = self.labels[self.neighbors(images, max(ks))]
        return [vote(labels[:, :k]) for k in ks]

    def accuracy(
        self, images: np.ndarray, labels: np.ndarray, ks: Sequence[int]
    ) -> dict[int, float]:
        """The share of images whose label is right, by k."""
        found = self.predict_all(images, ks)
        return {k: float((mine == labels).mean()) for k, mine in zip(ks, found, strict=True)}


def nearest(block: np.ndarray, k: int) -> np.ndarray:
    """The places of the k smallest numbers of each row, in order; of equal ones the first.

    Examples
    --------
    >>> nearest(np.array([[3.0, 1.0, 1.0, 0.0]]), 2).tolist()
    [[3, 1]]
    """
    last = np.partition(block, k - 1, axis=1)[:, k - 1]
    result = np.empty((len(block), k), np.int64)
    for row, (numbers, most) in enumerate(zip(block, last, strict=True)):
        candidates = np.flatnonzero(numbers <= most)  # more than k where some are equal
        result[row] = candidates[np.argsort(numbers[candidates], kind="stable")[:k]]
    return result


def vote(labels: np.ndarray) -> np.ndarray:
    """The most frequent label of each row; of equally frequent ones the smallest.

    Examples
    --------
    >>> vote(np.array([[2, 0, 2], [1, 0, 3]])).tolist()
    [2, 0]
    """
    counts = np.zeros((len(labels), int(labels.max(initial=0)) + 1), np.int64)
    rows = np.arange(len(labels))
    for column in labels.T:
        counts[rows, column] += 1
    found: np.ndarray = counts.argmax(axis=1)
    return found


def cross_validate(
    images: np.ndarray,
    labels: np.ndarray,
    ks: Sequence[int],
    *,
    folds: int = 5,
    metric: Metric = "l2",
) -> dict[int, list[float]]:
    """The accuracy of each fold, by k: of its images, by neighbors from all others.

    Folds are pieces in the order of the images, as ``np.array_split`` makes them. Distances serve
    every k.

    Parameters
    ----------
    images, labels
        See :class:`KNearest`.
    ks : sequence of int
    folds : int
        At least 2, at most the number of images.
    metric : str

    Raises
    ------
    DlmieError
        Too few or too many folds, or a k that is larger than the other folds.
    """
    if not 2 <= folds <= len(images):
        raise DlmieError(f"{len(images):,} images cannot be divided into {folds} folds")
    pieces = np.array_split(np.arange(len(images)), folds)
    result: dict[int, list[float]] = {k: [] for k in ks}
    for piece in pieces:
        rest = np.setdiff1d(np.arange(len(images)), piece)
        others = KNearest(images[rest], labels[rest], metric=metric)
        for k, share in others.accuracy(images[piece], labels[piece], ks).items():
            result[k].append(share)
    return result
