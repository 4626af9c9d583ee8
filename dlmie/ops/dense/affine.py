"""``x W + b`` in one pass; kernel in ``affine.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.dense.sums import SumAxis


class Affine(MatMul):
    """(x, W, b) → ``op(x) op(W) + b``, where op may transpose."""

    kernel = "affine"

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        super().perform(node, inputs[:2], outputs)
        outputs[0][0] = outputs[0][0] + inputs[2]

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return super().output_types(*inputs[:2])

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return super().output_shapes(node, shapes[:2])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        products = super().pullback(inputs[:2], outputs, cotangents)
        return [*products, SumAxis(0)(cotangents[0])]
