"""Layers of one matrix: affine maps and word embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph import init
from dlmie.graph.network import parameter
from dlmie.ops.dense.embedding import embedding


class Linear:
    """``x W + b`` over the last axis.

    Parameters
    ----------
    name : str
        Prefix of the parameters: ``NAME/W`` (inputs, outputs) and ``NAME/b`` (outputs,).
    inputs, outputs : int
        Sizes of the last axis before and after.
    W, b : initializer or array
        First values; ``b=None`` for no bias.
    trainable : bool
        Whether optimizers change them.
    rng : numpy.random.Generator
    dtype : str
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        rng: np.random.Generator,
        W: Any = None,
        b: Any = 0.0,
        trainable: bool = True,
        dtype: str = "float32",
    ) -> None:
        self.inputs, self.outputs = inputs, outputs
        start = init.glorot_uniform() if W is None else W
        first = init.resolve(start)(rng, (inputs, outputs), dtype)
        self.W = parameter(f"{name}/W", first, trainable=trainable, regularizable=trainable)
        self.b = None
        if b is not None:
            first = init.resolve(b)(rng, (outputs,), dtype)
            self.b = parameter(f"{name}/b", first, trainable=trainable)

    def __call__(self, x: Variable) -> Variable:
        """x (..., inputs) → (..., outputs)."""
        if x.type.ndim <= 2:
            y = x @ self.W
        else:  # one tall matrix product instead of a batch of small ones
            leading = [x.shape[i] for i in range(x.type.ndim - 1)]
            y = (x.reshape((-1, self.inputs)) @ self.W).reshape((*leading, self.outputs))
            y = pt.specify_shape(y, (*x.type.shape[:-1], self.outputs))
        return y if self.b is None else y + self.b


class Embedding:
    """One learned vector per word: ``W[ids]``.

    Parameters
    ----------
    name : str
        Prefix of the parameter ``NAME/W`` (words, size).
    words, size : int
        Number of words, length of their vectors.
    """

    def __init__(
        self,
        name: str,
        words: int,
        size: int,
        *,
        rng: np.random.Generator,
        W: Any = None,
        dtype: str = "float32",
    ) -> None:
        self.size = size
        start = init.normal(0.1) if W is None else W
        self.W = parameter(f"{name}/W", init.resolve(start)(rng, (words, size), dtype))

    def __call__(self, ids: Variable) -> Variable:
        """ids, integers of any shape → (..., size)."""
        return embedding(self.W, ids)
