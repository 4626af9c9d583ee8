"""Objectives of single units, channels, directions and whole layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import Network, View
from dlmie.typing import JsonObject
from dlmie.visualize.ascent.models import Classifier
from dlmie.visualize.ascent.objectives.terms import (
    Objective,
    Term,
    before_activation,
    layer_of,
    one_hot,
    plain,
    single,
)


def _vectors(layer: Variable) -> Variable:
    """(batch, channels[, rows, columns]) → mean over the places (batch, channels)."""
    return layer.mean(axis=(2, 3)) if layer.type.ndim == 4 else layer


def _channels(network: Network, layer: str) -> tuple[int, str]:
    kind = network[layer].type
    return int(kind.shape[1]), kind.dtype


def unit(layer: Variable, index: int | str | Sequence[int]) -> Objective:
    """A unit of a layer of units, such as a class's logit; before a ReLU.

    Parameters
    ----------
    layer : (batch, units), as ``net["logits"]``
    index : int, str or sequence of int
        A unit, or one for each image; a class may be named.

    Examples
    --------
    >>> unit(net["logits"], "flamingo")                                     # doctest: +SKIP
    Objective(unit(logits, 130))
    """
    network, name = layer_of(layer)
    if layer.type.ndim != 2:
        raise DlmieError(f"{name} is a layer of maps: take channel, neuron or energy of it")
    if isinstance(index, str):
        if not isinstance(network, Classifier):
            raise DlmieError(f"the classes of {network.name} have no names: give a number")
        index = network.class_index(index)
    weights = one_hot(index, *_channels(network, name), f"{network.name}'s {name}")
    return _dot("unit", network, name, weights, {"layer": name, "index": plain(index)})


def channel(layer: Variable, index: int | Sequence[int]) -> Objective:
    """The mean of a channel over all places, before a ReLU; several: one for each image."""
    network, name = layer_of(layer)
    weights = one_hot(index, *_channels(network, name), f"{network.name}'s {name}")
    return _dot("channel", network, name, weights, {"layer": name, "index": plain(index)})


def direction(layer: Variable, vector: Sequence[float] | np.ndarray) -> Objective:
    """The layer's mean projected on a direction in the space of its channels: ``mean_ij v·φ_ij``.

    Parameters
    ----------
    vector : (channels,) or (batch, channels)
        Scaled to length 1.
    """
    network, name = layer_of(layer)
    size, dtype = _channels(network, name)
    weights = np.atleast_2d(np.asarray(vector, dtype=dtype))
    if weights.shape[1] != size:
        raise DlmieError(f"{name} has {size} channels, the direction {weights.shape[1]}")
    weights = weights / np.linalg.norm(weights, axis=1, keepdims=True).astype(dtype)
    options = {"layer": name, "vector": np.asarray(vector, float).tolist()}
    return _dot("direction", network, name, weights, options)


def _dot(
    kind: str, network: Network, layer: str, weights: np.ndarray, options: JsonObject
) -> Objective:
    def build(view: View, data: list[Variable]) -> Variable:
        return (_vectors(before_activation(view, layer)) * data[0]).sum(axis=1)

    # They are all the same graph: another unit of the layer needs no compilation.
    return single(Term(kind, options, build, network, (weights,), {"layer": layer}))


def neuron(
    layer: Variable,
    channel: int | Sequence[int],
    row: int | None = None,
    column: int | None = None,
) -> Objective:
    """One place of a channel, before a ReLU; default: the place in the middle."""
    network, name = layer_of(layer)
    if layer.type.ndim != 4:
        raise DlmieError(f"{name} is not a layer of maps: take unit of it")
    weights = one_hot(channel, *_channels(network, name), f"{network.name}'s {name}")

    def check(maps: Variable, hint: str = "") -> None:
        sides = maps.type.shape[2:]
        for place, side, what in zip((row, column), sides, ("row", "column"), strict=True):
            if place is not None and side is not None and not 0 <= place < side:
                raise DlmieError(f"{name} has no {what} {place}: they are 0 to {side - 1}{hint}")

    check(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        maps = before_activation(view, name)
        check(maps, " for images of this size; take larger ones")
        i = maps.shape[2] // 2 if row is None else row
        j = maps.shape[3] // 2 if column is None else column
        return (maps[:, :, i, j] * data[0]).sum(axis=1)

    options = {"layer": name, "channel": plain(channel), "row": row, "column": column}
    compiled = {"layer": name, "row": row, "column": column}
    return single(Term("neuron", options, build, network, (weights,), compiled))


def energy(layer: Variable) -> Objective:
    """``½ ‖φ‖² / size``: whatever the layer sees, more of it (DeepDream)."""
    network, name = layer_of(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        y = view[name]
        return np.asarray(0.5, y.type.dtype) * pt.sqr(y).mean(axis=tuple(range(1, y.type.ndim)))

    return single(Term("energy", {"layer": name}, build, network, (), {"layer": name}))


def class_energy(layer: Variable) -> Objective:
    """``log Σ_k exp(y_k)`` of a layer of logits: how sure the image shows any class at all.

    A classifier's logits define a density of images, and this is its logarithm but for a constant
    (Grathwohl et al. 2020, equation 6): more of it, and an image is more like a photograph.

    Parameters
    ----------
    layer : (batch, classes), as ``net["logits"]``
    """
    network, name = layer_of(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        return pt.logsumexp(view[name], axis=1)

    return single(Term("class_energy", {"layer": name}, build, network, (), {"layer": name}))
