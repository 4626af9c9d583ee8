"""Rewrites around convolutions.

* ``fold_scale_and_shift``: ``conv2d(x, w, b) * scale + shift`` with one number per channel (batch
  normalization at inference) becomes ``conv2d(x, w * scale, b * scale + shift)``.
* ``fuse_activation``: ReLU and ReLU6 right after a convolution are computed in its own pass.
* ``fuse_max_pool``: of a convolution that only a 2×2 max pool reads, the largest of each 2×2 is
  kept as it is computed; the rest is never stored.
* ``mask_before_spreading``: the gradient of a max pool of a ReLU is masked before it is spread over
  the pool's windows, of which there are fewer.
* ``sum_before_spreading``: and summed before that.
* ``sum_while_masking``: the bias gradient is summed in the pass that masks the gradient.
"""

from __future__ import annotations

from typing import Any

from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.rewriting.basic import node_rewriter
from pytensor.scalar.basic import Add, Maximum, Mul
from pytensor.tensor.elemwise import Elemwise

from dlmie.ops.conv.activation import Activation, ActivationGradient, ChannelSum
from dlmie.ops.conv.conv import Convolution, PooledConvolution, TransposedConvolution
from dlmie.ops.pool.pool import MaxPool, MaxPoolGradient


def _convolution(fgraph: Any, x: Variable) -> Apply | None:
    """The convolution without activation that makes ``x`` for one reader only, if there is one."""
    node = x.owner
    if node is None or type(node.op) not in _LAYERS or node.op.activation is not None:
        return None
    return node if len(fgraph.clients[x]) == 1 else None


_LAYERS = (Convolution, TransposedConvolution)


def _with(node: Apply, w: Variable, b: Variable | None, activation: Any = None) -> Variable:
    """The convolution of ``node`` with other weights, bias or activation."""
    options = {**_options(node), "activation": activation, "biased": b is not None}
    return type(node.op)(**options)(node.inputs[0], w, *([] if b is None else [b]))


def _options(node: Apply) -> dict[str, Any]:
    return {name: getattr(node.op, name) for name in node.op.__props__}


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
        if convolution is None or channels is None or type(convolution.op) is not Convolution:
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
        if node.op.slope:
            return None
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
    return [PooledConvolution(**_options(y.owner))(*y.owner.inputs)]


@node_rewriter([ActivationGradient])
def mask_before_spreading(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Swap the gradients of ``max_pool(activation(x))``.

    The largest number of a window is that of the place that gets its gradient: what the activation
    let through can be read from either.
    """
    y, g = node.inputs
    spreading = g.owner
    if spreading is None or not isinstance(spreading.op, MaxPoolGradient) or node.op.sums:
        return None
    if spreading.inputs[0] is not y or len(fgraph.clients[g]) != 1:
        return None
    pool = spreading.op.like(MaxPool)
    pooled = [reader.outputs[0] for reader, _ in fgraph.clients[y] if reader.op == pool]
    if not pooled:
        return None
    return [spreading.op(y, node.op(pooled[0], spreading.inputs[1]))]


@node_rewriter([ChannelSum])
def sum_before_spreading(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Sums over channels of a max pool's gradient are those of what it spreads."""
    spreading = node.inputs[0].owner
    if spreading is None or not isinstance(spreading.op, MaxPoolGradient):
        return None
    return [ChannelSum()(spreading.inputs[1])]


@node_rewriter([ChannelSum])
def sum_while_masking(fgraph: Any, node: Apply) -> dict[Variable, Variable] | None:
    """``channel_sum(activation_gradient(y, g))`` and its argument → one pass over memory."""
    masking = node.inputs[0].owner
    if masking is None or not isinstance(masking.op, ActivationGradient) or masking.op.sums:
        return None
    summing = ActivationGradient(masking.op.kind, masking.op.slope, sums=True)
    masked, sums = summing(*masking.inputs)
    return {node.outputs[0]: sums, masking.outputs[0]: masked}
