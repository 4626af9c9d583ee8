"""Sums over one axis and sums of squares on all threads; kernels in ``sums.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.kernel_op import KernelOp


def _without(sizes: Sequence[Any], axis: int) -> tuple[Any, ...]:
    return tuple(n for i, n in enumerate(sizes) if i != axis)


class SumAxis(KernelOp):
    """Sum over one axis of a float tensor."""

    kernel = "sum_axis"
    __props__ = ("axis",)

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return [TensorType(inputs[0].type.dtype, shape=_without(inputs[0].type.shape, self.axis))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [_without(shapes[0], self.axis)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        outputs[0][0] = np.asarray(x.sum(axis=self.axis, dtype="float64"), dtype=x.dtype)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [pt.zeros_like(inputs[0]) + pt.expand_dims(cotangents[0], self.axis)]


class SumOfSquares(KernelOp):
    """The sum of the squares of all elements of a float tensor."""

    kernel = "sum_of_squares"

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return [TensorType(inputs[0].type.dtype, shape=())]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [()]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        total = np.square(x, dtype="float64").sum()
        outputs[0][0] = np.asarray(total, dtype=x.dtype)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        (x,) = inputs
        return [x * (cotangents[0] * np.asarray(2, dtype=x.type.dtype))]
