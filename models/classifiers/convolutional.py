"""Convolutional classifiers: the three-layer network of the course, and a deeper one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError
from dlmie.layers import Conv2D, Dropout, Linear, Sequential
from dlmie.layers.options import WeightOptions
from dlmie.layers.parameterless import flatten, halve
from dlmie.models.classifiers.image_classifier import Config
from dlmie.models.classifiers.network import (
    NetworkClassifier,
    first_weights,
    norm_layers,
    sizes_of,
)
from dlmie.ops.conv.activation import relu


class ThreeLayerConvNet(NetworkClassifier):
    """Convolution – ReLU – 2 × 2 max pool – affine – ReLU – affine (cs231n).

    Parameters
    ----------
    shape, classes, normalization, regularization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`.
    filters : int
        Of the convolution, which keeps the size of the images.
    filter_size : int
        Their height and width, odd.
    hidden : int
        Units of the affine layer.
    weight_scale : float, optional
        Standard deviation of the first weights; by default √(2 / inputs).

    Raises
    ------
    DlmieError
        Images of one pixel, or filters of another size.

    Examples
    --------
    >>> model = ThreeLayerConvNet((32, 32, 3), ["cat", "dog"])
    >>> model.logits(model.images).type.shape
    (None, 2)
    """

    kind = "three-layer-convnet"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        filters: int = 32,
        filter_size: int = 7,
        hidden: int = 100,
        weight_scale: float | None = None,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            shape,
            classes,
            normalization=normalization,
            regularization=regularization,
            seed=seed,
            dtype=dtype,
        )
        (self.filters,), (self.hidden,) = (
            sizes_of("filters", [filters]),
            sizes_of("hidden", [hidden]),
        )
        if filter_size < 1 or filter_size % 2 == 0:
            raise DlmieError(f"filter_size is {filter_size}; it must be odd")
        self.filter_size, self.weight_scale = filter_size, weight_scale
        rows, columns, channels = check_halved(self, 1)
        options: WeightOptions = {
            "rng": np.random.default_rng(seed),
            "W": first_weights(weight_scale),
            "dtype": dtype,
        }
        self.layers = Sequential(
            Conv2D("/conv", channels, filters, filter_size, **options),
            relu,
            halve,
            flatten,
            Linear("/hidden", filters * rows * columns, hidden, **options),
            relu,
            Linear("/scores", hidden, len(self.classes), **options),
        )

    @property
    def config(self) -> Config:
        return {
            "filters": self.filters,
            "filter_size": self.filter_size,
            "hidden": self.hidden,
            "weight_scale": self.weight_scale,
            **super().config,
        }


class ConvNet(NetworkClassifier):
    """Stages of two 3 × 3 convolutions, each halving the image, and an affine layer of scores.

    A convolution is followed by normalization and ReLU, a stage by a 2 × 2 max pool and dropout:
    the layout of VGG (Simonyan and Zisserman 2015) for small images.

    Parameters
    ----------
    shape, classes, normalization, regularization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`.
    stages : sequence of int, or text
        Filters of each stage: ``(32, 64, 128)`` or ``"32,64,128"``.
    norm : str
        "batch", "layer" or "none".
    keep : float
        Probability by which dropout keeps an activation after a stage; 1 for no dropout.
    weight_scale : float, optional
        Standard deviation of the first weights; by default √(2 / inputs).

    Raises
    ------
    DlmieError
        Images too small to be halved so often, or an option out of its range.

    Examples
    --------
    >>> model = ConvNet((32, 32, 3), ["cat", "dog"], stages=(16, 32))
    >>> model.templates.shape
    (16, 3, 3, 3)
    """

    kind = "convnet"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        stages: Sequence[int] | str = (32, 64, 128),
        norm: str = "batch",
        keep: float = 1.0,
        weight_scale: float | None = None,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            shape,
            classes,
            normalization=normalization,
            regularization=regularization,
            seed=seed,
            dtype=dtype,
        )
        self.stages = sizes_of("stages", stages)
        self.norm, self.keep, self.weight_scale = norm, keep, weight_scale
        rows, columns, channels = check_halved(self, len(self.stages))
        rng, W = np.random.default_rng(seed), first_weights(weight_scale)
        layers: list[Callable[[Variable], Variable]] = []
        for number, filters in enumerate(self.stages, 1):
            for part in "ab":
                name = f"/conv{number}{part}"
                # The shift of batch norm is a bias.
                b = 0.0 if norm == "none" else None
                layers += [
                    Conv2D(name, channels, filters, 3, rng=rng, W=W, b=b, dtype=dtype),
                    *norm_layers(norm, f"{name}/norm", filters, dtype),
                    relu,
                ]
                channels = filters
            layers += [halve, Dropout(keep)]
        scores = Linear(
            "/scores", channels * rows * columns, len(self.classes), rng=rng, W=W, dtype=dtype
        )
        self.layers = Sequential(*layers, flatten, scores)

    @property
    def config(self) -> Config:
        return {
            "stages": self.stages,
            "norm": self.norm,
            "keep": self.keep,
            "weight_scale": self.weight_scale,
            **super().config,
        }


def check_halved(model: NetworkClassifier, times: int) -> tuple[int, int, int]:
    """Rows and columns of what a model sees after so many halvings, and its channels.

    Raises
    ------
    DlmieError
        Nothing would be left.
    """
    channels, rows, columns = model.inputs
    least = 2**times
    if min(rows, columns) < least:
        seen = f"{rows} × {columns}"
        if min(model.shape[:2]) >= least:
            seen = f"{model.normalization.kind}, which has no rows and columns"
        raise DlmieError(
            f"{model.kind} halves images {times} times: it needs pixels, at least {least} × "
            f"{least}, not {seen}"
        )
    return rows // least, columns // least, channels
