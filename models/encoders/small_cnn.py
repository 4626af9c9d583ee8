"""A small convolutional network that learns along with what is built on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.graph import init
from dlmie.layers import Conv2D, Linear
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Shape
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import global_average_pool
from dlmie.typing import Json

# Filters of the layers; those of HALVING have stride 2.
FILTERS = (24, 32, 32, 64, 64, 64, 96, 96)
HALVING = (1, 3, 6)


class SmallCNN(ImageNetwork):
    """Eight 3 × 3 convolutions for pictures of some 64 pixels, with random weights.

    Three layers halve the grid; the others have a shortcut where they keep the number of channels
    (He et al. 2016), so that it learns without batch norm. It sees where it is: the rows and the
    columns of the image are two more channels of the input (CoordConv; Liu et al. 2018).

    Layers: ``conv1`` (batch, 24, 64, 64) … ``conv8`` (96, 8, 8), ``pool``, ``logits``,
    ``probabilities``; ``NAME/pre`` before a ReLU, of a layer with a shortcut without it.

    Parameters
    ----------
    weights : path or None
        A file of dlmie, or random weights.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    filters : sequence of int
        Of the eight layers.
    classes : int
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "caffe": see :class:`ImageNetwork`.

    Examples
    --------
    >>> SmallCNN()["conv8"].type.shape
    (None, 96, 8, 8)
    """

    name = "small-cnn"
    minimum = 8
    known_layouts = "files that dlmie wrote"

    def __init__(
        self,
        weights: Weights = None,
        *,
        seed: int = 0,
        size: int | None = 64,
        filters: Sequence[int] = FILTERS,
        classes: int = 10,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        start = first_values(weights, seed, dtype, W=init.he_normal())
        self.preprocessing = Preprocessing(size or 64, mean=(127.0,) * 3, scale=(128.0,) * 3)
        self.convolutions: list[Conv2D] = []
        self.filters, channels = tuple(filters), 5
        for i, count in enumerate(self.filters):
            stride = 2 if i in HALVING else 1
            name = f"/small_cnn/conv{i + 1}"
            self.convolutions.append(Conv2D(name, channels, count, 3, stride=stride, **start))
            channels = count
        self.logits = Linear("/small_cnn/logits", channels, classes, **start)
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )

    @property
    def options(self) -> dict[str, Json]:
        filters: dict[str, Json] = {} if self.filters == FILTERS else {"filters": [*self.filters]}
        return {**super().options, **filters}

    def build(self, x: Variable, *, relu: Activation | None = None) -> dict[str, Variable]:
        """Layers by name on images x (batch, 3, rows, columns), from input to output."""
        check_images(x, self.minimum, self.name)
        relu = relu or default_relu
        layers: dict[str, Variable] = {}
        x = pt.concatenate([x, *_places(x)], axis=1)
        for i, convolution in enumerate(self.convolutions):
            name = f"conv{i + 1}"
            layers[f"{name}/pre"] = convolution(x)
            y = relu(layers[f"{name}/pre"])
            filters, channels = convolution.W.type.shape[:2]
            x = x + y if filters == channels and i not in HALVING else y
            layers[name] = x
        layers["pool"] = global_average_pool(x)
        layers["logits"] = self.logits(layers["pool"])
        layers["probabilities"] = softmax(layers["logits"])
        return layers

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        return None


def _places(x: Variable) -> list[Variable]:
    """Row and column of each pixel of images x, from -1 to 1: two channels (batch, 1, …)."""
    dtype = x.type.dtype
    count, rows, columns = x.shape[0], x.shape[2], x.shape[3]
    down, across = (_ramp(length, dtype) for length in (rows, columns))
    shape = (count, 1, rows, columns)
    return [pt.alloc(down[:, None], *shape), pt.alloc(across[None, :], *shape)]


def _ramp(length: Variable, dtype: str) -> Variable:
    """Centers of ``length`` equal parts of -1 … 1."""
    two, one = (np.asarray(value, dtype) for value in (2, 1))
    middles = two * pt.arange(length).astype(dtype) + one
    return middles / length.astype(dtype) - one
