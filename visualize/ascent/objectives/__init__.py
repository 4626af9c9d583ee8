"""Objectives: what a picture is made to increase, as numbers that add and scale.

An :class:`Objective` is a weighted sum of terms.  A term is a function of a view of a network
(``net.on(x)``) and gives one number per image, so the same objective builds on any input, and no
image of a batch disturbs another.  Penalties (``total_variation``, ``feature_match``, …) are
positive numbers: subtract them.

>>> objective = unit(net["logits"], 130) - 1e-3 * total_variation()        # doctest: +SKIP
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from dlmie.visualize.ascent.objectives.captions import (
    caption_log_likelihood,
    sentence_log_likelihood,
    sentence_with_class_energy,
)
from dlmie.visualize.ascent.objectives.features import (
    feature_match,
    gram,
    guided_similarity,
    style_match,
)
from dlmie.visualize.ascent.objectives.manifests import FORMER_NAMES, from_json
from dlmie.visualize.ascent.objectives.penalties import alpha_norm, total_variation
from dlmie.visualize.ascent.objectives.terms import Objective, Term, layer_of, one_hot
from dlmie.visualize.ascent.objectives.units import (
    channel,
    class_energy,
    direction,
    energy,
    neuron,
    unit,
)

__all__ = [
    "FORMER_NAMES",
    "Objective",
    "Term",
    "alpha_norm",
    "caption_log_likelihood",
    "channel",
    "class_energy",
    "direction",
    "energy",
    "feature_match",
    "from_json",
    "gram",
    "guided_similarity",
    "layer_of",
    "neuron",
    "one_hot",
    "sentence_log_likelihood",
    "sentence_with_class_energy",
    "style_match",
    "total_variation",
    "unit",
]

if not TYPE_CHECKING:  # to a type checker, other names are errors

    def __getattr__(name: str) -> object:
        """Objectives by their names of version 0.1, deprecated."""
        if name not in FORMER_NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        warnings.warn(
            f"{name} is now called {FORMER_NAMES[name]}", DeprecationWarning, stacklevel=2
        )
        return globals()[FORMER_NAMES[name]]
