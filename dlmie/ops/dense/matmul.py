"""Matrix product through dlmie's own thread pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.kernel_op import KernelOp


class MatMul(KernelOp):
    """``op(a) @ op(b)`` of two matrices, where op may transpose; kernel in ``gemm.c``.

    ``b`` may be stored in half precision where neither is transposed.
    """

    kernel = "matmul"
    __props__ = ("transpose_a", "transpose_b")

    def __init__(self, transpose_a: bool = False, transpose_b: bool = False) -> None:
        super().__init__()
        self.transpose_a, self.transpose_b = transpose_a, transpose_b
        self.weights = () if transpose_a or transpose_b else (1,)

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        a, b = (x.type for x in inputs)
        shape = (a.shape[int(self.transpose_a)], b.shape[1 - int(self.transpose_b)])
        return [TensorType(a.dtype, shape=shape)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        a, b = inputs[0], inputs[1].astype(inputs[0].dtype, copy=False)
        outputs[0][0] = np.dot(a.T if self.transpose_a else a, b.T if self.transpose_b else b)

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        a, b = shapes
        return [(a[int(self.transpose_a)], b[1 - int(self.transpose_b)])]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        (a, b), (g,) = inputs, cotangents
        da = (
            matmul(b, g, self.transpose_b, True)
            if self.transpose_a
            else matmul(g, b, False, not self.transpose_b)
        )
        db = (
            matmul(g, a, True, self.transpose_a)
            if self.transpose_b
            else matmul(a, g, not self.transpose_a, False)
        )
        return [da, db]


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Variable:
    """``op(a) @ op(b)``: a (m, k) and b (k, n) after the optional transposes → (m, n)."""
    return MatMul(transpose_a, transpose_b)(pt.as_tensor_variable(a), pt.as_tensor_variable(b))
