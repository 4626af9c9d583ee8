"""Classifiers that are layers one after the other, with ReLU between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph import init
from dlmie.layers import BatchNorm, Conv2D, LayerNorm, Linear, Noise, Sequential
from dlmie.layers.sequential import Updates
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.models.classifiers.linear import as_images
from dlmie.text import suggest

NORMS = ("none", "batch", "layer")


class NetworkClassifier(ImageClassifier):
    """Base of the classifiers that are a network; a subclass sets ``layers``."""

    layers: Sequential

    def logits(self, images: Variable) -> Variable:
        return self.layers(images)

    def train(self, images: Variable, noise: Noise) -> tuple[Variable, Updates]:
        return self.layers.train(images, noise)

    @property
    def templates(self) -> np.ndarray:
        """The filters, or the weights of each hidden unit: (units, rows, columns, channels)."""
        first = next(layer for layer in self.layers.layers if isinstance(layer, (Conv2D, Linear)))
        if isinstance(first, Conv2D):
            return first.W.get_value().transpose(0, 2, 3, 1)
        return as_images(self, first.W)


def first_weights(scale: float | None) -> init.Initializer:
    """Gaussian weights of a standard deviation; None: of what suits ReLU (He et al. 2015)."""
    return init.he_normal() if scale is None else init.normal(scale)


def norm_layers(
    kind: str, name: str, channels: int, dtype: str
) -> Sequence[Callable[[Variable], Variable]]:
    """The normalization of a layer: "batch", "layer" or "none".

    Raises
    ------
    DlmieError
        Another kind.
    """
    if kind not in NORMS:
        raise DlmieError(f"there is no norm {kind!r}{suggest(kind, NORMS)}")
    if kind == "none":
        return []
    return [(BatchNorm if kind == "batch" else LayerNorm)(name, channels, dtype=dtype)]


def sizes_of(name: str, given: Sequence[int] | str) -> list[int]:
    """Numbers of units, as a list or as text: ``"100,50"`` → [100, 50].

    Raises
    ------
    DlmieError
        There is none, or one that is not a whole number above 0.
    """
    words = given.split(",") if isinstance(given, str) else given
    try:
        sizes = [int(word) for word in words]
    except (TypeError, ValueError):
        sizes = []
    if not sizes or min(sizes) < 1:
        raise DlmieError(f"{name} must be whole numbers above 0, such as 100,50: not {given!r}")
    return sizes
