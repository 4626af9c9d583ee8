"""CIFAR-10 as dlmie reads it, against what the course's notebooks print of it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from course import all_of_cifar10, course_entry

from dlmie.data import LabelledImages
from dlmie.data.labelled.dataset import prepare


@pytest.fixture(scope="module")
def data(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    """Prepared from the official layout, with the images that are there."""
    sys.path.insert(0, str(shared / "data"))
    try:
        import read_cifar10
    finally:
        sys.path.pop(0)
    folder = tmp_path_factory.mktemp("cifar")
    read_cifar10.write(folder)
    return prepare(folder / "cifar-10-batches-py", to=folder / "c.h5", progress=False)


def md5(images: np.ndarray) -> str:
    """Of the images as the official files hold them, channels first."""
    return hashlib.md5(np.ascontiguousarray(images.transpose(0, 3, 1, 2)).tobytes()).hexdigest()


@pytest.mark.slow
def test_the_official_files(shared: Path, data: LabelledImages) -> None:
    expected = course_entry(shared, "data_statistics")["expected"]
    train, dev, test = data["train"], data["dev"], data["test"]
    for number in range(2):
        images = train.images[10_000 * number : 10_000 * (number + 1)]
        assert md5(images) == expected["batch_data_md5"][number]
    assert md5(test.images) == expected["test_first_1000_md5"]
    assert train.labels[:20].tolist() == expected["first_train_labels"]
    assert test.labels[:20].tolist() == expected["first_test_labels"]
    assert np.bincount(dev.labels).tolist() == expected["val_label_counts_49000_50000"]


@pytest.mark.slow
def test_means_of_all_images(shared: Path, data: LabelledImages) -> None:
    images, labels = all_of_cifar10(shared)
    entry = course_entry(shared, "data_statistics")
    expected, rtol = entry["expected"], entry["rtol"]
    assert [md5(part) for part in np.array_split(images, 5)] == expected["batch_data_md5"]
    assert np.bincount(labels).tolist() == expected["train_label_counts"]
    pixels = images.reshape(-1, 3).astype(np.int64)
    np.testing.assert_allclose(pixels.mean(axis=0), expected["mean"], rtol=rtol)
    np.testing.assert_allclose(pixels.std(axis=0), expected["std"], rtol=rtol)
    mean = data.mean_image.ravel()
    np.testing.assert_allclose(mean[:10], expected["mean_image_first10"], rtol=rtol)
    np.testing.assert_allclose(mean.sum(), expected["mean_image_sum"], rtol=rtol)
