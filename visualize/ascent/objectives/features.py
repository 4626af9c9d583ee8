"""Objectives that compare features with those of other images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph.network import View
from dlmie.visualize.ascent.objectives.terms import Objective, Term, layer_of, one_hot, single


def feature_match(
    layer: Variable,
    target: np.ndarray,
    *,
    relative: bool = True,
    channels: Sequence[int] | None = None,
) -> Objective:
    """Penalty ``‖φ(x) - φ₀‖²``, relative to ``‖φ₀‖²`` unless ``relative`` is off.

    Parameters
    ----------
    target : (batch or 1, …) array
        φ₀: the layer's values to be matched.
    relative : bool
        Mahendran and Vedaldi's (2015) normalization.
    channels : sequence of int, optional
        Only these: single filters.
    """
    network, name = layer_of(layer)
    target = np.asarray(target, dtype=layer.type.dtype)
    chosen = None if channels is None else [int(c) for c in channels]
    if chosen is not None:
        one_hot(chosen, target.shape[1], "float32", f"{network.name}'s {name}")  # checks them
        target = np.ascontiguousarray(target[:, chosen])
    axes = tuple(range(1, target.ndim))
    norm = np.sqrt(np.square(target, dtype=np.float64).sum(axis=axes))
    scale = 1 / np.maximum(norm, 1e-12) ** 2 if relative else np.ones(len(target))

    def build(view: View, data: list[Variable]) -> Variable:
        features = view[name] if chosen is None else view[name][:, chosen]
        return pt.sqr(features - data[0]).sum(axis=axes) * data[1]

    options = {"layer": name, "relative": relative, "channels": chosen}
    data = (target, scale.astype(target.dtype))
    compiled = {"layer": name, "channels": chosen}
    return single(Term("feature_match", options, build, network, data, compiled))


def guided_similarity(layer: Variable, guide: np.ndarray) -> Objective:
    """Mean over places of ``max_g φ·g`` over the guide's places: guided dreams (Mordvintsev 2015).

    Parameters
    ----------
    guide : (channels, rows, columns)
        The layer's values for another image.
    """
    network, name = layer_of(layer)
    vectors = np.ascontiguousarray(guide.reshape(guide.shape[0], -1), dtype=layer.type.dtype)

    def build(view: View, data: list[Variable]) -> Variable:
        rows = view[name].flatten(3).transpose(0, 2, 1)  # (batch, places, channels)
        return pt.matmul(rows, data[0]).max(axis=2).mean(axis=1)

    term = Term("guided_similarity", {"layer": name}, build, network, (vectors,), {"layer": name})
    return single(term)


def gram(features: Variable) -> Variable:
    """Gram matrices (batch, C, C) of features (batch, C, H, W): ``F Fᵀ / (H·W·C)``."""
    rows = features.flatten(3)  # (batch, C, H·W)
    size = pt.cast(rows.shape[1] * rows.shape[2], rows.type.dtype)
    return pt.matmul(rows, rows.transpose(0, 2, 1)) / size


def style_match(layer: Variable, target: np.ndarray, *, relative: bool = False) -> Objective:
    """Penalty ``Σ (G(x) - A)²`` between Gram matrices (Gatys et al. 2016).

    Parameters
    ----------
    target : (batch or 1, C, C)
        A: the Gram matrices of the style (see :func:`gram`).
    relative : bool
        Divide by ``Σ A²``: the weights of layers then mean the same in every network.
    """
    network, name = layer_of(layer)
    target = np.asarray(target, dtype=layer.type.dtype)
    norm = np.square(target, dtype=np.float64).sum(axis=(1, 2))
    scale = 1 / np.maximum(norm, 1e-24) if relative else np.ones(len(target))

    def build(view: View, data: list[Variable]) -> Variable:
        return pt.sqr(gram(view[name]) - data[0]).sum(axis=(1, 2)) * data[1]

    options = {"layer": name, "relative": relative}
    data = (target, scale.astype(target.dtype))
    return single(Term("style_match", options, build, network, data, {"layer": name}))
