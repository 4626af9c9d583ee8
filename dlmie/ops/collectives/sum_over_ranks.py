"""Sums over the ranks of a parallel program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op

from dlmie.ops.runtime.differentiation import disconnected
from dlmie.ops.runtime.kernel_op import kernels_ready
from dlmie.ops.runtime.lending import lent
from dlmie.ops.runtime.shapes import infers_shape
from dlmie.parallel import Ranks


class SumOverRanks(Op):
    """Tensors → their sums over all ranks, in one message for each dtype.

    All ranks must compute it together, and get the same bits.  A gradient does not pass it.

    Parameters
    ----------
    ranks : Ranks
    ordered : bool
        Add pairwise by rank (:meth:`~dlmie.parallel.Ranks.add_in_order`), not as MPI likes.
    """

    __props__ = ("ranks", "ordered")

    def __init__(self, ranks: Ranks, *, ordered: bool = False) -> None:
        self.ranks, self.ordered = ranks, ordered

    def make_node(self, *tensors: Any) -> Apply:
        inputs = [pt.as_tensor_variable(tensor) for tensor in tensors]
        return Apply(self, inputs, [tensor.type() for tensor in inputs])

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        add = self.ranks.add_in_order if self.ordered else self.ranks.add
        for dtype in sorted({tensor.dtype for tensor in inputs}, key=str):
            mine = [i for i, tensor in enumerate(inputs) if tensor.dtype == dtype]
            # A new buffer for each call: shared variables keep what is made in its place.
            buffer = _empty(sum(inputs[i].size for i in mine), dtype)
            np.concatenate([inputs[i].reshape(-1) for i in mine], out=buffer)
            summed, start = add(buffer), 0
            for i in mine:
                stop = start + inputs[i].size
                outputs[i][0] = summed[start:stop].reshape(inputs[i].shape)
                start = stop

    @infers_shape
    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return shapes

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """No gradient flows."""
        return [[False] * len(node.outputs) for _ in node.inputs]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return disconnected(len(inputs))


def _empty(size: int, dtype: np.dtype) -> np.ndarray:
    return lent(size, dtype) if kernels_ready() else np.empty(size, dtype)


def sum_over_ranks(
    tensors: Sequence[Variable], ranks: Ranks, *, ordered: bool = False
) -> list[Variable]:
    """Symbolic sums of tensors over all ranks; the tensors themselves where there is one."""
    if ranks.size == 1 or not tensors:
        return list(tensors)
    summed: list[Variable] = SumOverRanks(ranks, ordered=ordered)(*tensors, return_list=True)
    return summed
