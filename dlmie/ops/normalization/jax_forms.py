"""Batch normalization in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dlmie.ops.conv.jax_forms import activated, passes
from dlmie.ops.normalization.batch_norm import (
    BatchNormalize,
    BatchNormalizeGradient,
    _other_axes,
)
from dlmie.ops.runtime.jax_forms import Form, jax_form


def _spread(channels: jax.Array, x: jax.Array) -> jax.Array:
    """(channels,) → broadcastable along x (batch, channels, …)."""
    return channels.reshape(1, -1, *[1] * (x.ndim - 2))


@jax_form(BatchNormalize)
def batch_normalize(op: BatchNormalize) -> Form:
    """The normalized batch, and mean and biased variance by channel."""

    def run(
        x: jax.Array, gamma: jax.Array, beta: jax.Array, epsilon: jax.Array
    ) -> tuple[jax.Array, ...]:
        over = _other_axes(x.ndim)
        mean = x.mean(axis=over)
        centered = x - _spread(mean, x)
        variance = jnp.square(centered).mean(axis=over)
        scale = gamma / jnp.sqrt(variance + epsilon)
        y = centered * _spread(scale, x) + _spread(beta, x)
        return activated(y, op.activation), mean, variance

    return run


@jax_form(BatchNormalizeGradient)
def batch_normalize_gradient(op: BatchNormalizeGradient) -> Form:
    """The gradients of x, gamma and beta."""

    def run(
        x: jax.Array,
        gamma: jax.Array,
        mean: jax.Array,
        variance: jax.Array,
        g: jax.Array,
        epsilon: jax.Array,
        *beta: jax.Array,
    ) -> tuple[jax.Array, ...]:
        over = _other_axes(x.ndim)
        inverse = 1 / jnp.sqrt(variance + epsilon)
        normal = (x - _spread(mean, x)) * _spread(inverse, x)
        for shift in beta:
            y = (x - _spread(mean, x)) * _spread(gamma / jnp.sqrt(variance + epsilon), x)
            g = jnp.where(passes(y + _spread(shift, x), op.activation), g, 0)
        d_beta, d_gamma = g.sum(axis=over), (g * normal).sum(axis=over)
        count = max(x.size // max(x.shape[1], 1), 1)
        slope = g - (_spread(d_beta, x) + normal * _spread(d_gamma, x)) / count
        return _spread(gamma * inverse, x) * slope, d_gamma, d_beta

    return run
