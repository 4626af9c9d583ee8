"""Rows of a matrix by their numbers; kernels in ``embedding.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.differentiation import PartlyDifferentiable, as_ids, disconnected


def _check(ids: np.ndarray, rows: int) -> None:
    if ids.size and (ids.min() < 0 or ids.max() >= rows):
        wrong = ids[(ids < 0) | (ids >= rows)].flat[0]
        raise ValueError(f"embedding: id {wrong} is not in [0, {rows})")


class EmbeddingRows(PartlyDifferentiable):
    """(W, ids) → W[ids]."""

    kernel = "embedding"
    differentiable = 1

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        w, ids = inputs
        return [TensorType(w.type.dtype, shape=(*ids.type.shape, w.type.shape[1]))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [(*shapes[1], shapes[0][1])]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        w, ids = inputs
        _check(ids, len(w))
        outputs[0][0] = w[ids]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        w, ids = inputs
        return [EmbeddingGradient()(w, ids, cotangents[0]), *disconnected(1)]


class EmbeddingGradient(PartlyDifferentiable):
    """(W, ids, g) → zeros like W with the rows of g added at ids."""

    kernel = "embedding_gradient"
    differentiable = 0

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        w, ids, g = inputs
        _check(ids, len(w))
        total = np.zeros_like(w)
        np.add.at(total, ids, g)
        outputs[0][0] = total

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[False], [False], [True]]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [*disconnected(2), EmbeddingRows()(cotangents[0], inputs[1])]


def embedding(W: Any, ids: Any) -> Variable:
    """One row of ``W`` for every id.

    Parameters
    ----------
    W : (words, size)
    ids : integers of any shape
        In [0, words); the compiled function raises ValueError otherwise.

    Returns
    -------
    (*ids.shape, size)
        Its gradient with respect to ``W`` is dense, and equal from run to run.
    """
    return EmbeddingRows()(pt.as_tensor_variable(W), as_ids(ids))
