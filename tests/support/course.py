"""The reference numbers of the course, and arrays compared with how they are described there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.layers import Noise


def course_entry(shared: Path, name: str) -> dict[str, Any]:
    """An entry of ``golden/course``."""
    text = (shared / "golden" / "course" / "golden_course.json").read_text(encoding="utf-8")
    entry: dict[str, Any] = json.loads(text)["entries"][name]
    return entry


def assert_matches(array: np.ndarray, expected: Any, rtol: float, atol: float = 1e-14) -> None:
    """An array against all of its numbers, or against its shape, sums, first and last numbers."""
    if not isinstance(expected, dict):
        np.testing.assert_allclose(array, expected, rtol=rtol, atol=atol)
        return
    assert list(array.shape) == expected["shape"]
    flat = array.astype(np.float64).ravel()
    first, last = expected["first"], expected["last"]
    np.testing.assert_allclose(flat[: len(first)], first, rtol=rtol, atol=atol)
    np.testing.assert_allclose(flat[-len(last) :], last, rtol=rtol, atol=atol)
    size = float(np.abs(flat).sum())
    np.testing.assert_allclose(size, expected["abs_sum"], rtol=rtol)
    np.testing.assert_allclose((flat * flat).sum(), expected["sq_sum"], rtol=rtol)
    np.testing.assert_allclose(flat.sum(), expected["sum"], rtol=rtol, atol=1e-12 * size)


def line(start: float, stop: float, *shape: int) -> np.ndarray:
    """The course's ``linspace`` of a shape."""
    return np.linspace(start, stop, int(np.prod(shape))).reshape(shape)


def cifar10(shared: Path, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A thousand images (n, 32, 32, 3), their labels, and the course's mean image.

    ``part`` is "train_00" … "train_19", "train_49" or "test_00".
    """
    import sys

    folder = shared / "data" / "cifar10"
    sys.path.insert(0, str(shared / "data"))
    try:
        from read_cifar10 import tiles
    finally:
        sys.path.pop(0)
    start = 1000 * int(part[-2:]) + (50_000 if part.startswith("test") else 0)
    labels = np.load(folder / "labels.npy")[start : start + 1000].astype(np.int64)
    return tiles(folder / f"{part}.webp"), labels, np.load(folder / "mean_image_49000.npy")


def all_of_cifar10(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 50,000 training images in their order, and their labels, where they are all there."""
    import sys

    import pytest

    sys.path.insert(0, str(shared / "data"))
    try:
        import read_cifar10
    finally:
        sys.path.pop(0)
    folders = [shared / "data" / name for name in ("cifar10", "cifar10_more")]
    there = sum(len(list(folder.glob("train_*.webp"))) for folder in folders)
    if there < 50:
        pytest.skip(f"needs the 50,000 training images of CIFAR-10; {there},000 are here")
    images, index, labels = read_cifar10.read()
    order = np.argsort(index)
    return images[order], labels[order].astype(np.int64)


class GivenMasks(Noise):
    """Dropout by masks that a test draws as the course does, from one generator or a seed."""

    def __init__(self, draw: Callable[[], np.random.RandomState]) -> None:
        super().__init__()
        self.draw, self.masks = draw, list[tuple[Variable, float]]()

    def dropout(self, x: Variable, rate: float) -> Variable:
        if not rate:
            return x
        mask = pt.tensor(f"mask{len(self.masks)}", dtype=x.type.dtype, shape=x.type.shape)
        self.masks.append((mask, 1 - rate))
        return x * mask

    @property
    def inputs(self) -> list[Variable]:
        """The masks, as inputs of a compiled function."""
        return [mask for mask, _ in self.masks]

    def drawn(self, rows: int) -> list[np.ndarray]:
        """Masks for a batch of so many rows, in the order in which the network uses them."""
        return [
            ((self.draw().rand(rows, *mask.type.shape[1:]) < keep) / keep).astype(mask.type.dtype)
            for mask, keep in self.masks
        ]
