"""Small networks that the tests of pictures look into."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.graph.network import Network, image_input
from dlmie.layers import Conv2D, Linear
from dlmie.models.encoders.imagenet import class_index
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.pool.pool import global_average_pool, max_pool


class Small(Network):
    """conv1 → ReLU → pool → conv2 → ReLU → mean → logits (5 classes)."""

    name = "small"
    minimum = 8
    classes: ClassVar[list[str]] = ["one", "two", "three", "four", "five"]

    def __init__(self, dtype: str = "float64", size: int | None = 16, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        made: dict[str, Any] = {"rng": rng, "dtype": dtype}
        self.conv1 = Conv2D("/small/conv1", 3, 6, 3, padding=1, **made)
        self.conv2 = Conv2D("/small/conv2", 6, 8, 3, padding=1, **made)
        self.logits = Linear("/small/logits", 8, 5, **made)
        self.preprocessing = Preprocessing(size or 16, (120.0,) * 3, (60.0, 55.0, 50.0))
        super().__init__(image_input(size, dtype))
        for p in self.parameters:
            p.set_value(rng.normal(0, 0.3, p.get_value().shape).astype(dtype))

    def class_index(self, target: int | str) -> int:
        return class_index(target, self.classes)

    def build(self, x: Variable, *, relu: Any = None) -> dict[str, Variable]:
        relu = relu or default_relu
        layers = {"conv1/pre": self.conv1(x)}
        layers["conv1"] = relu(layers["conv1/pre"])
        layers["pool1"] = max_pool(layers["conv1"], 2)
        layers["conv2/pre"] = self.conv2(layers["pool1"])
        layers["conv2"] = relu(layers["conv2/pre"])
        layers["pool2"] = global_average_pool(layers["conv2"])
        layers["logits"] = self.logits(layers["pool2"])
        layers["probabilities"] = pt.special.softmax(layers["logits"], axis=1)
        return layers


def photo(rows: int = 16, columns: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth random pixels (rows, columns, 3) uint8."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).random((rows, columns, 3))
    smooth = gaussian_filter(noise, (2, 2, 0), mode="wrap")
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)
