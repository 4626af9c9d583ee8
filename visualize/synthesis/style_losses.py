"""The losses of style transfer as weighted penalties, and what each comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.data.images import valid_range
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.evaluation import layer_values
from dlmie.visualize.ascent.objectives import (
    Objective,
    feature_match,
    style_match,
    total_variation,
)
from dlmie.visualize.synthesis.style_presets import Preset, course_scale


@dataclass(frozen=True)
class StyleWeights:
    """Content, style and smoothness as weighted penalties; those of weight 0 are left out."""

    content: float
    style: float
    variation: float
    preset: Preset | None

    def content_loss(self, network: Network, layer: str, x: np.ndarray) -> list[Objective]:
        if not self.content:
            return []
        weight = self.preset.content * course_scale(network, 2) if self.preset else self.content
        (target,) = layer_values(network, [layer], x, any_size=True)
        relative = self.preset is None
        return [weight * feature_match(network[layer], target, relative=relative)]

    def style_losses(
        self, network: Network, layers: Sequence[str], x: np.ndarray, multiplier: float
    ) -> list[Objective]:
        if not self.style:
            return []
        each = (self.style / len(layers),) * len(layers)
        if self.preset:
            each = tuple(weight * course_scale(network, 4) for weight in self.preset.style)
        if len(each) != len(layers):
            raise DlmieError(f"this preset is for {len(each)} style layers, not {len(layers)}")
        features = layer_values(network, layers, x[None], any_size=True)
        return [
            float(multiplier)
            * weight
            * style_match(network[layer], gram_of(one), relative=self.preset is None)
            for layer, one, weight in zip(layers, features, each, strict=True)
        ]

    def variation_loss(self, network: Network, size: int) -> list[Objective]:
        """``size``: numbers of the image."""
        if not self.variation:
            return []
        low, high = valid_range(network.preprocessing)
        if self.preset:
            weight = self.preset.variation * course_scale(network, 2)
        else:
            weight = self.variation / (size * float((high - low).mean()) ** 2)
        return [weight * total_variation()]


def each_loss(
    network: Network, losses: Sequence[Objective], images: np.ndarray
) -> dict[str, float]:
    """The weighted losses of an image (1, 3, H, W) by kind, in NumPy."""
    kinds = {"feature_match": "content", "style_match": "style", "total_variation": "variation"}
    result = dict.fromkeys(kinds.values(), 0.0)
    terms = [term for loss in losses for term in loss.terms]
    layers = list(dict.fromkeys(t.options["layer"] for _, t in terms if "layer" in t.options))
    found = dict(zip(layers, layer_values(network, layers, images, any_size=True), strict=True))
    for weight, term in terms:
        if term.kind == "total_variation":
            value = sum(float(np.square(np.diff(images, axis=axis)).sum()) for axis in (2, 3))
        else:
            features = found[term.options["layer"]]
            shown = gram_of(features) if term.kind == "style_match" else features
            target, scale = term.data
            value = float(np.square(shown - target).sum() * scale[0])
        result[kinds[term.kind]] += weight * value
    return result


def gram_of(features: np.ndarray) -> np.ndarray:
    """``F Fᵀ / (H·W·C)`` of features (batch, C, H, W), in NumPy."""
    rows = features.reshape(*features.shape[:2], -1)
    result: np.ndarray = rows @ rows.transpose(0, 2, 1) / (rows.shape[1] * rows.shape[2])
    return result
