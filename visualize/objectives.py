"""What pictures are made for: the objectives of :mod:`dlmie.visualize.ascent.objectives`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlmie.visualize.ascent import objectives
from dlmie.visualize.ascent.objectives import (
    Objective,
    alpha_norm,
    caption_log_likelihood,
    channel,
    class_energy,
    direction,
    energy,
    feature_match,
    guided_similarity,
    neuron,
    sentence_log_likelihood,
    sentence_with_class_energy,
    style_match,
    total_variation,
    unit,
)

__all__ = [
    "Objective",
    "alpha_norm",
    "caption_log_likelihood",
    "channel",
    "class_energy",
    "direction",
    "energy",
    "feature_match",
    "guided_similarity",
    "neuron",
    "sentence_log_likelihood",
    "sentence_with_class_energy",
    "style_match",
    "total_variation",
    "unit",
]

if not TYPE_CHECKING:  # to a type checker, other names are errors

    def __getattr__(name: str) -> object:
        """Objectives by their former names, deprecated."""
        return getattr(objectives, name)
