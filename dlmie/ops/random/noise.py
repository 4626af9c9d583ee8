"""Dropout and uniform noise as pure functions of an integer key; kernels in ``noise.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.runtime.differentiation import PartlyDifferentiable, disconnected


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _draw(key: int, salt: int, shape: tuple[int, ...]) -> np.ndarray:
    """The 64-bit integers of stream (key, salt), as ``noise.c`` defines them."""
    start = np.array([key], dtype=np.int64).astype(np.uint64)
    stream = _mix(_mix(start) + np.uint64(salt))
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    return _mix(stream + index * np.uint64(0x9E3779B97F4A7C15)).reshape(shape)


class _Noise(PartlyDifferentiable):
    __props__ = ("salt",)

    def __init__(self, salt: int) -> None:
        super().__init__()
        self.salt = salt


class Dropout(_Noise):
    """``x / (1 - rate)`` where kept, else 0: inverted dropout (Srivastava et al., 2014)."""

    kernel = "dropout"
    differentiable = 1

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, key, rate = inputs
        if not 0 <= rate < 1:
            raise ValueError(f"dropout: rate must be in [0, 1), not {rate:g}")
        kept = (_draw(int(key), self.salt, x.shape) >> np.uint64(32)) >= int(float(rate) * 2**32)
        scale = x.dtype.type(1 / (1 - float(rate)))
        outputs[0][0] = np.where(kept, x * scale, x.dtype.type(0))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _, key, rate = inputs
        # The same key draws the same mask.
        return [self(cotangents[0], key, rate), *disconnected(2)]


class Uniform(_Noise):
    """Numbers in [0, 1), shaped like the first input."""

    kernel = "uniform"
    differentiable = 0  # the first input gives its shape only

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        like, key = inputs
        numbers = (_draw(int(key), self.salt, like.shape) >> np.uint64(40)) / 2.0**24
        outputs[0][0] = np.asarray(numbers, dtype=like.dtype)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return disconnected(2)


def dropout(x: Variable, rate: float, key: Variable, salt: int = 0) -> Variable:
    """Inverted dropout of ``x`` (any shape) with the mask that (key, salt) names.

    Parameters
    ----------
    x : float tensor
    rate : float
        Probability of dropping an element, in [0, 1).
    key : int64 scalar
        A different key draws a different mask.
    salt : int
        Tells apart the uses of one key in a graph.

    Raises
    ------
    ValueError
        When called, for a rate outside [0, 1).

    Examples
    --------
    >>> import pytensor.tensor as pt
    >>> y = dropout(pt.ones((1000,), dtype="float32"), 0.25, pt.constant(7, dtype="int64"))
    >>> bool(abs(y.mean().eval() - 1) < 0.1)
    True
    """
    return Dropout(salt)(x, pt.cast(key, "int64"), np.asarray(rate, dtype=x.type.dtype))


def uniform_like(x: Variable, key: Variable, salt: int = 0) -> Variable:
    """Independent uniform numbers in [0, 1), of the shape and dtype of ``x``."""
    return Uniform(salt)(x, pt.cast(key, "int64"))
