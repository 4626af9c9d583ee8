"""tanh, sigmoid and exp without a library call an element; kernels in ``elementwise.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.runtime.inplace import Overwriting

KINDS = ("tanh", "sigmoid", "exp")


class Vectorized(Overwriting):
    """One function of every element of a float tensor."""

    kernel = "elementwise"
    __props__ = ("kind", "overwrites")
    overwritable = ({0: 0},)

    def __init__(self, kind: str, overwrites: int | None = None) -> None:
        self.kind = kind
        super().__init__(overwrites)

    def parameters(self) -> Sequence[int]:
        return (KINDS.index(self.kind),)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        if self.kind == "sigmoid":
            outputs[0][0] = np.asarray(0.5 + 0.5 * np.tanh(0.5 * x), dtype=x.dtype)
        else:
            outputs[0][0] = np.asarray(getattr(np, self.kind)(x))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        (y,), (g,) = outputs, cotangents
        if self.kind == "tanh":
            return [g * (1 - pt.sqr(y))]
        return [g * y * (1 - y)] if self.kind == "sigmoid" else [g * y]
