"""What pictures are made for: the objectives of :mod:`dlmie.visualize.ascent.objectives`."""

from dlmie.visualize.ascent.objectives import (
    Objective,
    alpha_norm,
    caption_log_likelihood,
    channel,
    depicts,
    direction,
    energy,
    evidence,
    feature_match,
    neuron,
    resemblance,
    says,
    style_match,
    total_variation,
    unit,
)

__all__ = [
    "Objective",
    "alpha_norm",
    "caption_log_likelihood",
    "channel",
    "depicts",
    "direction",
    "energy",
    "evidence",
    "feature_match",
    "neuron",
    "resemblance",
    "says",
    "style_match",
    "total_variation",
    "unit",
]
