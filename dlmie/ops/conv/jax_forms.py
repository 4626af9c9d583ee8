"""Convolutions and activations in JAX."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dlmie.ops.conv.activation import Activation, ActivationGradient, ChannelSum, Kind
from dlmie.ops.conv.chain import ConvolutionChain
from dlmie.ops.conv.conv import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    PooledConvolution,
    _ConvolutionFamily,
)
from dlmie.ops.runtime.jax_forms import Form, jax_form, transpose


def _activated(x: jax.Array, kind: Kind | None) -> jax.Array:
    if kind is None:
        return x
    return jnp.maximum(x, 0) if kind == "relu" else jnp.clip(x, 0, 6)


def _channel_sums(x: jax.Array) -> jax.Array:
    """(batch, channels, …) → (channels,)."""
    return x.sum(axis=(0, *range(2, x.ndim)))


@jax_form(Activation)
def activation(op: Activation) -> Form:
    """``max(x, 0)``, or ``min(max(x, 0), 6)``."""
    return lambda x: _activated(x, op.kind)


@jax_form(ActivationGradient)
def activation_gradient(op: ActivationGradient) -> Form:
    """The gradient where the activation let its input pass, and its sums by channel."""

    def run(y: jax.Array, g: jax.Array) -> jax.Array | tuple[jax.Array, ...]:
        passed = (y > 0) & (y < 6) if op.kind == "relu6" else y > 0
        masked = jnp.where(passed, g, 0)
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
    return _activated(y + b[0][:, None, None] if b else y, op.activation)


@jax_form(Convolution)
def convolution(op: Convolution) -> Form:
    """Convolution, bias and activation."""
    return partial(_convolution, op)


@jax_form(ConvolutionChain)
def convolution_chain(op: ConvolutionChain) -> Form:
    """Every step as a convolution of its own; XLA joins what it can."""

    def run(x: jax.Array, *weights: jax.Array) -> tuple[jax.Array, ...] | jax.Array:
        slots, left = [x], list(weights)
        for step in op.steps:
            own, left = left[: step.inputs()], left[step.inputs() :]
            y = _convolution(step.convolution, slots[step.source], *own)
            slots.append(y if step.residual < 0 else slots[step.residual] + y)
        outputs = tuple(slots[1 + i] for i in op.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    return run


@jax_form(PooledConvolution)
def pooled_convolution(op: PooledConvolution) -> Form:
    """The largest of each 2×2 of a convolution."""

    def run(*inputs: jax.Array) -> jax.Array:
        window = (1, 1, 2, 2)
        y = _convolution(op, *inputs)
        return lax.reduce_window(y, -jnp.inf, lax.max, window, window, "VALID")

    return run


@jax_form(ConvolutionInputGradient)
def convolution_input_gradient(op: ConvolutionInputGradient) -> Form:
    """The transpose of a convolution as a map of its input."""
    return lambda x, w, g: transpose(lambda x: _convolve(op, x, w), x, g)


@jax_form(ConvolutionWeightGradient)
def convolution_weight_gradient(op: ConvolutionWeightGradient) -> Form:
    """The transpose of a convolution as a map of its filters."""
    return lambda x, w, g: transpose(lambda w: _convolve(op, x, w), w, g)
