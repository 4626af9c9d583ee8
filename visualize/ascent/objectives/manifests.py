"""Objectives from the JSON of a manifest, by their present or former names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlmie.errors import DlmieError
from dlmie.typing import JsonObject
from dlmie.visualize.ascent.models import Model, network_of
from dlmie.visualize.ascent.objectives.captions import sentence_log_likelihood
from dlmie.visualize.ascent.objectives.penalties import alpha_norm, total_variation
from dlmie.visualize.ascent.objectives.terms import Objective
from dlmie.visualize.ascent.objectives.units import (
    channel,
    class_energy,
    direction,
    energy,
    neuron,
    unit,
)

#: Names that objectives had in version 0.1, and those that they have now.
FORMER_NAMES = {
    "says": "sentence_log_likelihood",
    "depicts": "sentence_with_class_energy",
    "evidence": "class_energy",
    "resemblance": "guided_similarity",
}

# What a manifest may name: terms that JSON alone describes.
_MAKERS: dict[str, Callable[..., Objective]] = {
    "unit": unit,
    "channel": channel,
    "neuron": neuron,
    "direction": direction,
    "energy": energy,
    "class_energy": class_energy,
    "total_variation": total_variation,
    "alpha_norm": alpha_norm,
    "sentence_log_likelihood": sentence_log_likelihood,
}


def from_json(value: Sequence[tuple[float, str, JsonObject]], model: Model) -> Objective:
    """The objective that ``Objective.to_json`` described, on a network or a captioner.

    Raises
    ------
    DlmieError
        A term that holds data of another picture (features or a sentence) or is not known.
    """
    total = None
    for weight, name, options in map(_checked, value):
        kind = FORMER_NAMES.get(name, name)
        if kind not in _MAKERS:
            raise DlmieError(f"an objective of kind {kind!r} cannot be reproduced from a manifest")
        arguments: dict[str, object] = {**options}
        if "layer" in arguments:
            arguments["layer"] = network_of(model)[options["layer"]]
        if kind == "sentence_log_likelihood":
            arguments["captioner"] = model
        try:
            term = weight * _MAKERS[kind](**arguments)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            if isinstance(error, DlmieError):
                raise
            raise DlmieError(f"the manifest's objective {name!r} cannot be read: {error}") from None
        total = term if total is None else total + term
    if total is None:
        raise DlmieError("the manifest holds no objective")
    return total


def _checked(term: object) -> tuple[float, str, JsonObject]:
    """A term of a manifest, if it is one: its weight, its kind and its options."""
    match term:
        case [int() | float() as weight, str(kind), dict(options)]:
            return float(weight), kind, options
    raise DlmieError("the manifest's objective must be a list of [weight, kind, options]")
