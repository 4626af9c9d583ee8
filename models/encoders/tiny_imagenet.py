"""The pretrained network of the cs231n visualization assignment, for TinyImageNet-100-A."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers as storage
from dlmie.graph import init
from dlmie.layers import BatchNorm, Conv2D, Linear
from dlmie.layers.noise import Noise, dropout
from dlmie.models.encoders.image_network import (
    Activation,
    ImageNetwork,
    Weights,
    check_images,
    first_values,
    is_model_file,
)
from dlmie.models.encoders.layouts import Layout, Shape, permuted, same
from dlmie.ops.conv.activation import relu as default_relu
from dlmie.ops.losses.cross_entropy import softmax, softmax_cross_entropy
from dlmie.typing import Json, JsonObject

SIZES = (5, 3, 3, 3, 3, 3, 3, 3, 3)  # of the filters of the convolutions, 0 to 8
GRID = 2  # rows and columns that the first affine layer reads, at 64 pixels
LAST = 10


class Sizes(NamedTuple):
    """Filters of the convolutions 0-1, 2-3, 4-5, 6-7 and 8; outputs of blocks 9 and 10."""

    filters: tuple[int, ...] = (64, 128, 256, 512, 1024)
    units: int = 512
    classes: int = 100


COURSE = Sizes()

Updates = list[tuple[Variable, Variable]]


class PretrainedCNN(ImageNetwork):
    """Nine convolutions and two affine layers, each but the last with batch norm and ReLU.

    Layers: ``block0`` (batch, 64, 32, 32), ``block1``, ``block2`` (128, 16, 16), ``block3``,
    ``block4`` (256, 8, 8), ``block5``, ``block6`` (512, 4, 4), ``block7``, ``block8`` (1024, 2, 2),
    ``block9`` (512,), ``block10`` = ``logits``, ``probabilities``; ``NAME/pre`` before a ReLU.  The
    course's ``layer=4`` is ``block4``, the output of the fifth convolution.  On images of other
    sizes than 64 the affine layers are left out.

    Parameters
    ----------
    weights : path or None
        The course's ``pretrained_model.h5``, a file of the same arrays or of dlmie; None for random
        weights.
    seed : int
        Of random weights.
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    mean : 3 float
        The mean pixel (RGB) of the training images; the default is ImageNet's.
    filters : sequence of 5 int, optional
        Of the convolutions 0-1, 2-3, 4-5, 6-7 and 8; by default those of the file, or the course's
        64, 128, 256, 512 and 1024.
    units, classes : int, optional
        Outputs of blocks 9 and 10; by default those of the file, or the course's 512 and 100.
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, such as "caffe": see :class:`ImageNetwork`.

    Raises
    ------
    WeightsError
        The file does not fit; lists every mismatch.
    """

    name = "tiny-imagenet"
    minimum = 16  # fewer pixels leave block 8 less than one
    known_layouts = "W1, b1, gamma1, beta1, running_mean1, running_var1 …"

    def __init__(
        self,
        weights: Weights = None,
        *,
        seed: int = 0,
        size: int | None = 64,
        mean: tuple[float, float, float] = (123.68, 116.779, 103.939),
        filters: Sequence[int] | None = None,
        units: int | None = None,
        classes: int | None = None,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        self.preprocessing = Preprocessing(size or 64, mean=mean)
        trained = _sizes_in(weights)
        self.sizes = Sizes(
            trained.filters if filters is None else tuple(filters),
            trained.units if units is None else units,
            trained.classes if classes is None else classes,
        )
        filters, units, classes = self.sizes
        options = first_values(weights, seed, dtype, W=init.he_normal())
        self.layers: list[Conv2D | Linear] = []
        before = 3
        for i, side in enumerate(SIZES):
            after = filters[i // 2]
            self.layers.append(
                Conv2D(
                    f"/tiny_imagenet/block{i}",
                    *(before, after, side),
                    stride=2 - i % 2,  # every other one halves the image
                    padding=side // 2,
                    **options,
                )
            )
            before = after
        self.layers.append(Linear("/tiny_imagenet/block9", before * GRID**2, units, **options))
        self.layers.append(Linear("/tiny_imagenet/block10", units, classes, **options))
        self.norms = [
            BatchNorm(f"/tiny_imagenet/block{i}", features, dtype=dtype)
            for i, features in enumerate([*(filters[i // 2] for i in range(len(SIZES))), units])
        ]
        super().__init__(
            weights, size=size, classes=classes, dtype=dtype, preprocessing=preprocessing
        )

    @property
    def options(self) -> dict[str, Json]:
        options, usual = super().options, COURSE._asdict()
        own = {**self.sizes._asdict(), "filters": list(self.sizes.filters)}
        usual["filters"] = list(COURSE.filters)
        return options | {name: size for name, size in own.items() if size != usual[name]}

    def build(
        self,
        x: Variable,
        *,
        relu: Activation | None = None,
        start: int = 0,
        end: int = LAST,
    ) -> dict[str, Variable]:
        """Blocks ``start`` to ``end``, both included, by name; ``x`` is what block ``start`` reads.

        So ``net.on(features, start=5)["logits"]`` goes on from the output of block 4.
        """
        layers, _ = self._build(x, relu or default_relu, start, end, train=False)
        return layers

    def filter(self, x: Variable, index: int, *, start: int = 0, end: int = LAST) -> Variable:
        """Only filter ``index`` of block ``end``, without computing the block's other filters.

        Returns
        -------
        (batch, 1, rows, columns), or (batch, 1) of blocks 9 and 10
            After batch norm and ReLU, which block 10 has not: exactly that slice of ``build``.
        """
        self._check_range(start, end)
        outputs = self.layers[end].W.type.shape[0 if end < len(SIZES) else 1]
        if not 0 <= index < outputs:
            raise DlmieError(
                f"block {end} of {self.name} has filters 0 to {outputs - 1}, not {index}"
            )
        if end > start:
            x = self.build(x, start=start, end=end - 1)[f"block{end - 1}"]
        layer, one = copy.copy(self.layers[end]), slice(index, index + 1)
        layer.W = layer.W[one] if isinstance(layer, Conv2D) else layer.W[:, one]
        layer.b = None if layer.b is None else layer.b[one]
        y = self._affine(layer, x)
        if end == LAST:
            return y
        norm = copy.copy(self.norms[end])
        for part in ("gamma", "beta", "mean", "variance"):
            setattr(norm, part, getattr(norm, part)[one])
        return default_relu(norm(y))

    def loss(self, x: Variable, labels: Variable) -> tuple[Variable, Updates]:
        """Mean softmax loss in training: batch norms use the batch's own statistics.

        Parameters
        ----------
        x : (batch, 3, 64, 64)
        labels : (batch,) integers

        Returns
        -------
        scalar and list of updates
            The updates move the running statistics; hand them to ``dlmie.function`` with those of
            the optimizer.
        """
        logits, updates = self.train(x)
        return softmax_cross_entropy(logits, labels).mean(), updates

    def train(
        self, x: Variable, noise: Noise | None = None, keep: float = 1.0
    ) -> tuple[Variable, Updates]:
        """The scores in training: batch norms use the batch's own statistics.

        Parameters
        ----------
        x : (batch, 3, 64, 64)
        noise : Noise, optional
            Where dropout comes from.
        keep : float
            Probability by which it keeps what the affine layers read; the course has none.

        Returns
        -------
        (batch, classes) and list of updates
            As of :meth:`loss`.
        """
        rate = 0.0 if noise is None else 1 - keep
        layers, updates = self._build(
            x, default_relu, 0, LAST, train=True, drop=lambda y: dropout(y, rate, noise)
        )
        if "logits" not in layers:
            raise DlmieError(f"{self.name} learns from images of 64 × 64 pixels, not {x.type}")
        return layers["logits"], updates

    def _build(
        self,
        x: Variable,
        relu: Activation,
        start: int,
        end: int,
        *,
        train: bool,
        drop: Callable[[Variable], Variable] = lambda y: y,
    ) -> tuple[dict[str, Variable], Updates]:
        self._check_range(start, end)
        if start == 0:
            check_images(x, self.minimum, self.name)
        layers: dict[str, Variable] = {}
        updates: Updates = []
        for i in range(start, end + 1):
            if x.type.ndim == 4 and i >= len(SIZES) and x.type.shape[2:] != (GRID, GRID):
                break
            x = self._affine(self.layers[i], x if i < len(SIZES) else drop(x))
            if i < LAST:
                if train:
                    x, moved = self.norms[i].train(x)
                    updates += moved
                else:
                    x = self.norms[i](x)
                layers[f"block{i}/pre"] = x
                x = relu(x)
            layers[f"block{i}"] = x
        if f"block{LAST}" in layers:
            layers["logits"] = x
            layers["probabilities"] = softmax(x)
        return layers, updates

    @staticmethod
    def _affine(layer: Conv2D | Linear, x: Variable) -> Variable:
        return layer(x.flatten(2) if isinstance(layer, Linear) and x.type.ndim == 4 else x)

    def _check_range(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= LAST:
            raise DlmieError(
                f"{self.name} has blocks 0 to {LAST}: cannot run from {start} to {end}"
            )

    # Weights

    def from_model_file(
        self, header: JsonObject, arrays: dict[str, np.ndarray], source: Path
    ) -> tuple[JsonObject, dict[str, np.ndarray]]:
        """Also what ``dlmie train --model tiny-imagenet-cnn`` writes: its classes, its pixels."""
        if "normalization" not in header:
            return header, arrays
        mean, scale = (arrays.pop(f"/normalization/{name}", None) for name in ("mean", "scale"))
        if mean is None or scale is None or mean.shape != (3,):
            raise WeightsError(
                f"{source} learned from images less their mean image, and {self.name} subtracts "
                "one color: train it with --normalization per-channel"
            )
        if "classes" in header:
            self.classes = list(header["classes"])
        seen = Preprocessing(
            self.preprocessing.size, mean=tuple(mean.tolist()), scale=tuple(scale.tolist())
        )
        return {**header, "preprocessing": seen.to_json()}, arrays

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        if "W1" not in stored:
            return None
        parts = {"W": "W", "b": "b", "gamma": "gamma", "beta": "beta"}
        parts |= {"mean": "running_mean", "variance": "running_var"}
        rules = []
        for i in range(LAST + 1):
            for ours, part in parts.items():
                name, theirs = f"/tiny_imagenet/block{i}/{ours}", f"{part}{i + 1}"
                if name not in shapes:  # the last block has no batch norm
                    continue
                shape = shapes[name]
                if stored.get(theirs) == shape[::-1] != shape:  # written by MATLAB or by TF
                    rules.append(permuted(theirs, name, shape, range(len(shape))[::-1]))
                else:
                    rules.append(same(theirs, name, shape))
        return Layout(rules, self.preprocessing)


def _sizes_in(weights: Weights) -> Sizes:
    """The sizes that a model of ``tiny-imagenet-cnn`` states; of any other file, the course's."""
    if weights is None or not is_model_file(Path(weights)):
        return COURSE
    header = storage.load_header(Path(weights))
    config = header.get("config")
    stages, hidden = (config.get("stages"), config.get("hidden")) if config else (None, None)
    classes = header.get("classes")
    if not (isinstance(stages, list) and isinstance(hidden, int) and isinstance(classes, list)):
        return COURSE
    return Sizes(tuple(stages), hidden, len(classes))
