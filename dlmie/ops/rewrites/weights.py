"""Weights that do not change any more, as the kernels that read them would have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.tensor.type import TensorType
from pytensor.tensor.variable import TensorConstant

from dlmie.ops.conv.chain import ConvolutionChain, is_pointwise, pack_filters
from dlmie.ops.runtime import library
from dlmie.ops.runtime.kernel_op import KernelOp, kernels_ready

#: Elements of the smallest matrix that is worth it: others stay in a cache.
LARGE = 1 << 16


class StoreWeightsInHalf(GraphRewriter):
    """Shared matrices whose numbers are all of half precision → constants stored so.

    A product of a few rows waits for its weights: half of the memory is read, and its results are
    the same; a product of many rows is summed in another order.  Where a processor has no
    instructions that widen such numbers, nothing is done.
    """

    def apply(self, fgraph: FunctionGraph, *args: Any, **kwargs: Any) -> None:
        if not (kernels_ready() and library.reads_half()):
            return
        stored: dict[Variable, Variable] = {}  # each is converted once
        for node in fgraph.toposort():
            inputs = _with_stored(node, stored) if isinstance(node.op, KernelOp) else node.inputs
            if inputs != node.inputs:
                new = node.op.make_node(*inputs).outputs
                fgraph.replace_all_validate(
                    list(zip(node.outputs, new, strict=True)), reason="store_weights_in_half"
                )


def _with_stored(node: Apply, stored: dict[Variable, Variable]) -> list[Variable]:
    """The inputs of a node, weights in half precision where that is possible."""
    inputs = list(node.inputs)
    for i in node.op.weights:
        if inputs[i] not in stored:
            stored[inputs[i]] = in_half(inputs[i])
        inputs[i] = stored[inputs[i]]
    return inputs


def in_half(variable: Variable) -> Variable:
    """A constant with the variable's value in half precision, or the variable itself.

    The variable is converted if it is shared, large, and in half precision nothing is lost.
    """
    if not isinstance(variable, SharedVariable) or variable.type.dtype != "float32":
        return variable
    value = variable.get_value(borrow=True)
    if value.size < LARGE or not _is_lossless(value[:1]) or not _is_lossless(value):
        return variable
    half = value.astype(np.float16)
    return TensorConstant(TensorType("float16", shape=half.shape), half, name=variable.name)


def _is_lossless(value: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(value, value.astype(np.float16))


class PackFilters(GraphRewriter):
    """Shared 1×1 filters of chains of convolutions → constants in the order of the inner loop.

    Otherwise a chain packs them in every call: a tenth of EfficientNet-Lite0's time for one image.
    """

    def apply(self, fgraph: FunctionGraph, *args: Any, **kwargs: Any) -> None:
        if not kernels_ready():
            return
        stored: dict[Variable, Variable | None] = {}  # each is packed once
        for node in fgraph.toposort():
            if not isinstance(node.op, ConvolutionChain):
                continue
            op, inputs = _with_packed(node.op, node.inputs, stored)
            if op == node.op:
                continue
            new = op.make_node(*inputs).outputs
            fgraph.replace_all_validate(
                list(zip(node.outputs, new, strict=True)), reason="pack_filters"
            )


def _with_packed(
    op: ConvolutionChain, inputs: Sequence[Variable], stored: dict[Variable, Variable | None]
) -> tuple[ConvolutionChain, list[Variable]]:
    """A chain and its inputs, filters packed where that is possible."""
    steps, taken = [], [inputs[0]]
    for step, (w, *bias) in op.with_weights(inputs):
        if isinstance(w, SharedVariable) and is_pointwise(step.convolution, w.type.shape):
            if w not in stored:
                stored[w] = _packed(w)
            if (constant := stored[w]) is not None:
                step, w = step._replace(packed=True), constant
        steps.append(step)
        taken += [w, *bias]
    return ConvolutionChain(tuple(steps), op.outputs, op.masks), taken


def _packed(w: SharedVariable) -> Variable | None:
    value = pack_filters(w.get_value(borrow=True))
    if value is None:
        return None
    return TensorConstant(TensorType(w.type.dtype, shape=value.shape), value, name=w.name)
