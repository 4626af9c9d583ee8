"""k nearest neighbors: three ways to a distance, votes, folds, and the course's numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from course import cifar10, course_entry

from dlmie.errors import DlmieError
from dlmie.models import KNearest
from dlmie.models.classifiers import distances as ways
from dlmie.models.classifiers.nearest import cross_validate, nearest, vote

RNG = np.random.default_rng(0)


def pixels(count: int, size: int = 40) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, 1)).astype(np.uint8)


@pytest.mark.parametrize("metric", ["l2", "l1"])
@pytest.mark.parametrize("kind", ["pixels", "numbers"])
def test_three_ways_agree(
    metric: Literal["l2", "l1"], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pixels(9), pixels(23)
    if kind == "numbers":
        a, b = a / 7.0, b / 7.0
    monkeypatch.setattr(ways, "BLOCK", 4 * 23 * 8)  # four rows at a time
    found = ways.distances(a, b, metric)
    for slow in (ways.with_one_loop, ways.with_two_loops):
        np.testing.assert_allclose(found, slow(a, b, metric), rtol=1e-12)
    assert [len(block) for _, block in ways.in_blocks(a, b, metric)] == [4, 4, 1]


def test_squared_distances_of_pixels_are_whole_numbers() -> None:
    """The largest sums there are, which float32 could not hold without care."""
    a = np.zeros((2, 5000), np.uint8)
    b = np.full((3, 5000), 255, np.uint8)
    a[1, 4999] = b[2, 0] = 254
    ((_, found),) = ways.in_blocks(a, b)
    gap = a[:, None].astype(np.int64) - b
    np.testing.assert_array_equal(found, (gap * gap).sum(axis=2))


def test_equal_rows_are_not_apart() -> None:
    a = RNG.normal(size=(5, 30)) * 1e6
    assert (np.diagonal(ways.distances(a, a)) < 1).all()
    assert not np.isnan(ways.distances(a, a)).any()


def test_neighbors_are_in_order_and_ties_go_to_the_first() -> None:
    block = RNG.integers(0, 5, (50, 30)).astype(float)
    np.testing.assert_array_equal(nearest(block, 7), block.argsort(axis=1, kind="stable")[:, :7])
    assert vote(np.array([[3, 1, 1, 3], [2, 2, 0, 0]])).tolist() == [1, 0]


def test_every_k_from_the_same_distances() -> None:
    images, labels = pixels(60, 4), RNG.integers(0, 3, 60)
    knn = KNearest(images[:40], labels[:40])
    by_k = knn.predict_all(images[40:], [1, 5, 40])
    for k, found in zip([1, 5, 40], by_k, strict=True):
        np.testing.assert_array_equal(found, knn.predict(images[40:], k=k))
    np.testing.assert_array_equal(knn.predict(images[:40], k=1), labels[:40])


def test_folds_are_scored_by_the_others() -> None:
    images, labels = pixels(11, 4), RNG.integers(0, 3, 11)
    found = cross_validate(images, labels, [1, 3], folds=3)
    pieces = np.array_split(np.arange(11), 3)
    for k, shares in found.items():
        for piece, share in zip(pieces, shares, strict=True):
            rest = np.setdiff1d(np.arange(11), piece)
            knn = KNearest(images[rest], labels[rest])
            assert share == (knn.predict(images[piece], k=k) == labels[piece]).mean()


def test_the_numbers_of_the_course(shared: Path) -> None:
    """137, 139 and 141 of 500 right, and fifty accuracies of folds: all of them exactly."""
    entry = course_entry(shared, "data_knn")["expected"]
    parts = [cifar10(shared, f"train_0{number}") for number in range(5)]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    others, theirs, _ = cifar10(shared, "test_00")
    others, theirs = others[:500], theirs[:500]
    knn = KNearest(images, labels)
    ks = [int(k) for k in entry["test_correct"]]
    right = {k: round(500 * share) for k, share in knn.accuracy(others, theirs, ks).items()}
    assert right == {int(k): count for k, count in entry["test_correct"].items()}
    assert (right[1], right[5], right[10]) == (137, 139, 141)
    found = knn.distances(others)
    np.testing.assert_allclose(found[0, :5], entry["distance_first"], rtol=1e-9)
    np.testing.assert_allclose(found.sum(), entry["distance_sum"], rtol=1e-9)
    folds = cross_validate(images, labels, ks)
    assert folds == {int(k): pytest.approx(shares) for k, shares in entry["cv"].items()}


def test_what_cannot_be() -> None:
    images, labels = pixels(4, 4), np.array([0, 1, 0, 1])
    with pytest.raises(DlmieError, match="4 images and 3 labels are no training set"):
        KNearest(images, labels[:3])
    with pytest.raises(DlmieError, match="there is no metric 'l3'"):
        KNearest(images, labels, metric="l3")  # type: ignore[arg-type]
    knn = KNearest(images, labels)
    with pytest.raises(DlmieError, match="k is 5; there are 4 images to choose from"):
        knn.predict(images, k=5)
    with pytest.raises(DlmieError, match="rows of 25 and of 16 numbers have no distance"):
        knn.predict(pixels(1, 5), k=1)
    with pytest.raises(DlmieError, match="must be pixels, or both numbers"):
        knn.predict(images / 2.0, k=1)
    with pytest.raises(DlmieError, match="4 images cannot be divided into 5 folds"):
        cross_validate(images, labels, [1])
