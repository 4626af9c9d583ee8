"""Graph rewrites of dlmie, registered under a tag that only ``dlmie.function`` includes.

* ``use_dlmie_matmul``: products of matrices run over dlmie's own threads.
* ``fold_scale_and_shift``: ``conv2d(x, w, b) * scale + shift`` with one number a channel (batch
  normalisation at inference) becomes ``conv2d(x, w * scale, b * scale + shift)``.
* ``fuse_activation``: ReLU and ReLU6 right after a convolution are computed in its own pass.
* ``fuse_max_pool``: of a convolution that only a 2×2 max pool reads, the largest of each 2×2 is
  kept as it is computed; the rest is never stored.
* ``sum_while_masking``: the bias gradient is summed in the pass that masks the gradient.
"""

from __future__ import annotations

from typing import Any

from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.rewriting.basic import dfs_rewriter, in2out, node_rewriter
from pytensor.scalar.basic import Add, Maximum, Mul
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot

from dlmie.ops.activation import Activation, ActivationGradient, ChannelSum
from dlmie.ops.conv import Convolution, PooledConvolution
from dlmie.ops.matmul import MatMul
from dlmie.ops.pool import MaxPool

TAG = "dlmie"


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
    if a.type.dtype not in ("float32", "float64"):
        return None
    (a, transpose_a), (b, transpose_b) = _untransposed(a), _untransposed(b)
    return [MatMul(transpose_a, transpose_b)(a, b)]


def _convolution(fgraph: Any, x: Variable) -> Apply | None:
    """The convolution without activation that makes ``x`` for one reader only, if there is one."""
    node = x.owner
    if node is None or type(node.op) is not Convolution or node.op.activation is not None:
        return None
    return node if len(fgraph.clients[x]) == 1 else None


def _with(node: Apply, w: Variable, b: Variable | None, activation: Any = None) -> Variable:
    """The convolution of ``node`` with other weights, bias or activation."""
    op = node.op
    changed = Convolution(
        op.stride, op.padding, op.dilation, op.groups, activation, b is not None, op.exact
    )
    return changed(node.inputs[0], w, *([] if b is None else [b]))


def _bias(node: Apply) -> Variable | None:
    return node.inputs[2] if node.op.biased else None


def _per_channel(x: Variable, like: Variable) -> Variable | None:
    """The vector that ``x`` (1, channels, 1, 1) holds for the channels of ``like``."""
    if x.type.broadcastable != (True, False, True, True) or x.type.dtype != like.type.dtype:
        return None
    return x.dimshuffle(1)


@node_rewriter([Elemwise])
def fold_scale_and_shift(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Fold ``* (1, channels, 1, 1)`` or ``+ (1, channels, 1, 1)`` into the convolution before."""
    if not isinstance(node.op.scalar_op, Add | Mul) or len(node.inputs) != 2:
        return None
    for y, other in (node.inputs, node.inputs[::-1]):
        convolution = _convolution(fgraph, y)
        channels = None if convolution is None else _per_channel(other, y)
        if convolution is None or channels is None:
            continue
        w, b = convolution.inputs[1], _bias(convolution)
        if isinstance(node.op.scalar_op, Add):
            return [_with(convolution, w, channels if b is None else b + channels)]
        scaled = w * channels.dimshuffle(0, "x", "x", "x")
        return [_with(convolution, scaled, None if b is None else b * channels)]
    return None


def _is_zero(x: Variable) -> bool:
    return isinstance(x, Constant) and x.data.size > 0 and not x.data.any()


@node_rewriter([Activation, Elemwise])
def fuse_activation(fgraph: Any, node: Apply) -> list[Variable] | None:
    """``relu(conv2d(...))``, ReLU6 and ``maximum(conv2d(...), 0)`` → one operation."""
    y = node.inputs[0]
    if isinstance(node.op, Activation):
        kind = node.op.kind
    elif isinstance(node.op.scalar_op, Maximum) and any(_is_zero(x) for x in node.inputs):
        y, kind = (node.inputs if _is_zero(node.inputs[1]) else node.inputs[::-1])[0], "relu"
    else:
        return None
    convolution = _convolution(fgraph, y)
    if convolution is None or y.type.dtype != node.outputs[0].type.dtype:
        return None
    return [_with(convolution, convolution.inputs[1], _bias(convolution), kind)]


HALVING = MaxPool((2, 2), (2, 2))


@node_rewriter([MaxPool])
def fuse_max_pool(fgraph: Any, node: Apply) -> list[Variable] | None:
    """``max_pool(conv2d(...), 2)`` → one operation."""
    (y,) = node.inputs
    if node.op != HALVING or y.owner is None or type(y.owner.op) is not Convolution:
        return None
    if len(fgraph.clients[y]) != 1:
        return None
    options = {name: getattr(y.owner.op, name) for name in Convolution.__props__}
    return [PooledConvolution(**options)(*y.owner.inputs)]


@node_rewriter([ChannelSum])
def sum_while_masking(fgraph: Any, node: Apply) -> dict[Variable, Variable] | None:
    """``channel_sum(activation_gradient(y, g))`` and its argument → one pass over memory."""
    masking = node.inputs[0].owner
    if masking is None or not isinstance(masking.op, ActivationGradient) or masking.op.sums:
        return None
    masked, sums = ActivationGradient(masking.op.kind, sums=True)(*masking.inputs)
    return {node.outputs[0]: sums, masking.outputs[0]: masked}


# Folding looks for what layers write, before canonicalisation spreads it over the graph; fusing
# waits until canonicalisation has removed readers that only wanted a shape.
optdb.register("fold_scale_and_shift", in2out(fold_scale_and_shift), TAG, position=0.7)
optdb.register("fuse_activation", dfs_rewriter(fuse_activation), TAG, position=1.65)
optdb.register("fuse_max_pool", dfs_rewriter(fuse_max_pool), TAG, position=1.655)
optdb.register("sum_while_masking", dfs_rewriter(sum_while_masking), TAG, position=1.66)
# Before PyTensor's own BLAS rewrites, which start at 1.7.
optdb.register("use_dlmie_matmul", dfs_rewriter(use_dlmie_matmul), TAG, position=1.69)
