"""Rewrites toward the kernels of dense and recurrent networks."""

from __future__ import annotations

from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import Add, Exp, Mul, Sqr, Tanh
from pytensor.scalar.math import Sigmoid
from pytensor.tensor.elemwise import CAReduce, DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.shape import Reshape
from pytensor.tensor.special import LogSoftmax
from pytensor.tensor.special import Softmax as PlainSoftmax

from dlmie.ops.conv.activation import ChannelSum
from dlmie.ops.dense.affine import Affine
from dlmie.ops.dense.elementwise import Vectorized
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.dense.sums import SumAxis, SumOfSquares
from dlmie.ops.losses.cross_entropy import Softmax
from dlmie.ops.optimizers.updates import Rule

FLOATS = ("float32", "float64")
FUNCTIONS = {Tanh: "tanh", Sigmoid: "sigmoid", Exp: "exp"}


def _is(node: Apply | None, *scalar_ops: type) -> bool:
    """Whether a node is elementwise one of these operations."""
    return (
        node is not None
        and isinstance(node.op, Elemwise)
        and isinstance(node.op.scalar_op, scalar_ops)
    )


def _only_client(fgraph: Any, variable: Variable) -> bool:
    return len(fgraph.clients[variable]) == 1


def _only_expands(node: Apply) -> bool:
    """Whether a node puts axes of size 1 before those of a matrix."""
    if not isinstance(node.op, DimShuffle):
        return False
    order = node.op.new_order
    return len(order) > 2 and order == ("x",) * (len(order) - 2) + (0, 1)


def _untransposed(x: Variable) -> tuple[Variable, bool]:
    """A matrix and whether it must be transposed: looks through ``x.T``."""
    node = x.owner
    if node is not None and isinstance(node.op, DimShuffle) and node.op.new_order == (1, 0):
        (whole,) = node.inputs
        if whole.type.ndim == 2:  # else axes of size 1 are dropped on the way
            return whole, True
    return x, False


@node_rewriter([Dot])
def use_dlmie_matmul(fgraph: Any, node: Apply) -> list[Variable] | None:
    """``dot`` of two float matrices → MatMul: BLAS over one thread pool, transposes absorbed."""
    a, b = node.inputs
    if a.type.ndim != 2 or b.type.ndim != 2:
        return None
    if not a.type.dtype == b.type.dtype == node.outputs[0].type.dtype:
        return None
    if a.type.dtype not in FLOATS:
        return None
    (a, transpose_a), (b, transpose_b) = _untransposed(a), _untransposed(b)
    return [MatMul(transpose_a, transpose_b)(a, b)]


@node_rewriter([PlainSoftmax, LogSoftmax])
def use_dlmie_softmax(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Softmax over the last axis → the vectorized kernel."""
    (x,) = node.inputs
    axis = node.op.axis  # None: over all; a number, or in later versions of PyTensor a tuple
    axes = range(x.type.ndim) if axis is None else np.atleast_1d(axis)
    if x.type.dtype not in FLOATS or x.type.ndim == 0:
        return None
    if [int(i) % x.type.ndim for i in axes] != [x.type.ndim - 1]:
        return None
    return [Softmax(isinstance(node.op, LogSoftmax))(x)]


@node_rewriter([Elemwise])
def use_vectorized_functions(fgraph: Any, node: Apply) -> list[Variable] | None:
    """tanh, sigmoid and exp of matrices and larger tensors → kernels without a call an element."""
    kind = FUNCTIONS.get(type(node.op.scalar_op))
    (out,) = node.outputs if len(node.outputs) == 1 else (None,)
    if kind is None or out is None or out.type.ndim < 2 or out.type.dtype not in FLOATS:
        return None
    if node.inputs[0].type.dtype != out.type.dtype or all(out.type.broadcastable):
        return None
    return [Vectorized(kind)(node.inputs[0])]


@node_rewriter([Elemwise])
def join_bias(fgraph: Any, node: Apply) -> list[Variable] | None:
    """``x W + b`` → Affine, also where the product was reshaped before b was added, or has got
    leading axes of size 1."""
    if not _is(node, Add) or len(node.inputs) != 2:
        return None
    for bias, product in (node.inputs, node.inputs[::-1]):
        shuffle, rows = bias.owner, product.owner
        if shuffle is None or not isinstance(shuffle.op, DimShuffle):
            continue
        order = shuffle.op.new_order
        if shuffle.inputs[0].type.ndim != 1 or order != ("x",) * (len(order) - 1) + (0,):
            continue
        reshape = None
        reshaped = rows is not None and (isinstance(rows.op, Reshape) or _only_expands(rows))
        if reshaped and _only_client(fgraph, product):
            reshape, rows = rows, rows.inputs[0].owner
        if rows is None or type(rows.op) is not MatMul or not _only_client(fgraph, rows.outputs[0]):
            continue
        b, out = shuffle.inputs[0], rows.outputs[0]
        # PyTensor broadcasts what is known to have size 1 only: else b is as wide as its partner.
        if b.type.dtype != out.type.dtype or any(b.type.broadcastable + out.type.broadcastable):
            continue
        width = out.type.shape[1]
        if reshape is not None and (width is None or product.type.shape[-1] != width):
            continue
        y = Affine(rows.op.transpose_a, rows.op.transpose_b)(*rows.inputs, b)
        return [y if reshape is None else reshape.op(y, *reshape.inputs[1:])]
    return None


@node_rewriter([CAReduce])
def use_parallel_sums(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Sums over one axis, over all but axis 1, and of squares, → kernels that use all threads."""
    op, (x,) = node.op, node.inputs
    if not isinstance(op, Sum) or x.type.dtype not in FLOATS:
        return None
    if node.outputs[0].type.dtype != x.type.dtype:
        return None
    axes = tuple(range(x.type.ndim)) if op.axis is None else tuple(op.axis)
    if len(axes) == x.type.ndim and _is(x.owner, Sqr, Mul):
        factors = x.owner.inputs
        same = len(factors) == 1 or (len(factors) == 2 and factors[0] is factors[1])
        if same and factors[0].type.dtype == x.type.dtype:
            return [SumOfSquares()(factors[0])]
    if len(axes) == 1 and x.type.ndim in (2, 3, 4):
        return [SumAxis(axes[0])(x)]
    if x.type.ndim > 2 and axes == (0, *range(2, x.type.ndim)):
        return [ChannelSum()(x)]
    return None


@node_rewriter([Elemwise])
def join_optimizer_step(fgraph: Any, node: Apply) -> dict[Variable, Variable] | None:
    """parameter + step of a rule → one pass that updates parameter and slots."""
    if not _is(node, Add) or len(node.inputs) != 2:
        return None
    for step, parameter in (node.inputs, node.inputs[::-1]):
        rule = step.owner
        if rule is None or not isinstance(rule.op, Rule) or rule.op.adds:
            continue
        if step is not rule.outputs[0] or not _only_client(fgraph, step):
            continue
        if parameter.type.dtype != step.type.dtype:
            continue
        if parameter.type.broadcastable != step.type.broadcastable:
            continue
        moved, *slots = Rule(rule.op.kind, rule.op.constants, adds=True)(parameter, *rule.inputs)
        return {node.outputs[0]: moved, **dict(zip(rule.outputs[1:], slots, strict=True))}
    return None
