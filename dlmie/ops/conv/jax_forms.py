"""Convolutions and activations in JAX."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dlmie.ops.conv.activation import Activation, ActivationGradient, ChannelSum, Kind, passes
from dlmie.ops.conv.chain import ConvolutionChain, ConvolutionChainGradient, Step
from dlmie.ops.conv.conv import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    PooledConvolution,
    TransposedConvolution,
    _ConvolutionFamily,
)
from dlmie.ops.runtime.jax_forms import Form, jax_form, transpose


def activated(x: jax.Array, kind: Kind | None) -> jax.Array:
    """The activation of x; None: x itself."""
    if kind is None:
        return x
    return jnp.maximum(x, 0) if kind == "relu" else jnp.clip(x, 0, 6)


def _channel_sums(x: jax.Array) -> jax.Array:
    """(batch, channels, …) → (channels,)."""
    return x.sum(axis=(0, *range(2, x.ndim)))


@jax_form(Activation)
def activation(op: Activation) -> Form:
    """``max(x, 0)``, or ``min(max(x, 0), 6)``; with a slope, leaky ReLU."""

    def run(x: jax.Array) -> jax.Array:
        y = activated(x, op.kind)
        return jnp.where(x < 0, op.slope * x, y) if op.slope else y

    return run


@jax_form(ActivationGradient)
def activation_gradient(op: ActivationGradient) -> Form:
    """The gradient where the activation let its input pass, and its sums by channel."""

    def run(y: jax.Array, g: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
        masked = jnp.where(passes(y, op.kind), g, 0)
        if op.slope:
            masked = jnp.where(y > 0, masked, op.slope * g)
        return (masked, _channel_sums(masked)) if op.sums else masked

    return run


@jax_form(ChannelSum)
def channel_sum(op: ChannelSum) -> Form:
    """Sums over all axes but that of channels."""
    return _channel_sums


def _convolve(op: _ConvolutionFamily, x: jax.Array, w: jax.Array) -> jax.Array:
    """The convolution alone: x (batch, channels, rows, columns), w (filters, …) → maps."""
    sides = op.padding
    return lax.conv_general_dilated(
        x,
        w,
        op.stride,
        sides.upper() if isinstance(sides, str) else (sides[:2], sides[2:]),
        rhs_dilation=op.dilation,
        feature_group_count=op.groups,
        dimension_numbers=("NCHW", "OIHW", "NCHW"),
    )


def _convolution(op: Convolution, x: jax.Array, w: jax.Array, *b: jax.Array) -> jax.Array:
    y = _convolve(op, x, w)
    return activated(y + b[0][:, None, None] if b else y, op.activation)


@jax_form(Convolution)
def convolution(op: Convolution) -> Form:
    """Convolution, bias and activation."""
    return partial(_convolution, op)


@jax_form(ConvolutionChain)
def convolution_chain(op: ConvolutionChain) -> Form:
    """Every step as a convolution of its own; XLA joins what it can."""

    def run(*inputs: jax.Array) -> tuple[jax.Array, ...] | jax.Array:
        outputs = tuple(op.forward(_convolution, jnp, *inputs))
        return outputs if len(outputs) > 1 else outputs[0]

    return run


@jax_form(ConvolutionChainGradient)
def convolution_chain_gradient(op: ConvolutionChainGradient) -> Form:
    """The transpose of one step after the other."""

    def transposed(step: Step, like: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
        return transpose(lambda x: _convolve(step.convolution, x, w), like, g)

    return partial(op.backward, transposed, jnp)


@jax_form(PooledConvolution)
def pooled_convolution(op: PooledConvolution) -> Form:
    """The largest of each 2×2 of a convolution."""

    def run(*inputs: jax.Array) -> jax.Array:
        window = (1, 1, 2, 2)
        y = _convolution(op, *inputs)
        return lax.reduce_window(y, -jnp.inf, lax.max, window, window, "VALID")

    return run


@jax_form(TransposedConvolution)
def transposed_convolution(op: TransposedConvolution) -> Form:
    """The transpose of a convolution, bias and activation."""

    def run(x: jax.Array, w: jax.Array, *b: jax.Array) -> jax.Array:
        sizes = [op.whole_size(axis, x.shape[2 + axis], w.shape[2 + axis]) for axis in (0, 1)]
        like = jnp.zeros((x.shape[0], w.shape[1] * op.groups, *sizes), x.dtype)
        y = transpose(lambda v: _convolve(op, v, w), like, x)
        return activated(y + b[0][:, None, None] if b else y, op.activation)

    return run


@jax_form(ConvolutionInputGradient)
def convolution_input_gradient(op: ConvolutionInputGradient) -> Form:
    """The transpose of a convolution as a map of its input."""
    return lambda x, w, g: transpose(lambda x: _convolve(op, x, w), x, g)


@jax_form(ConvolutionWeightGradient)
def convolution_weight_gradient(op: ConvolutionWeightGradient) -> Form:
    """The transpose of a convolution as a map of its filters."""
    return lambda x, w, g: transpose(lambda w: _convolve(op, x, w), w, g)
