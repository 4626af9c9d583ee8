"""Softmax and cross-entropy in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dlmie.ops.losses.cross_entropy import (
    CrossEntropy,
    CrossEntropyGradient,
    Softmax,
    SoftmaxGradient,
)
from dlmie.ops.runtime.jax_forms import Form, jax_form


def _shift(x: jax.Array) -> jax.Array:
    """What to subtract from each row before taking exponentials."""
    top = x.max(axis=-1, keepdims=True)
    return jnp.where(jnp.isinf(top), 0, top)


@jax_form(Softmax)
def softmax(op: Softmax) -> Form:
    """Softmax over the last axis, or its logarithm."""

    def run(x: jax.Array) -> jax.Array:
        shifted = x - _shift(x)
        sums = jnp.exp(shifted).sum(axis=-1, keepdims=True)
        return shifted - jnp.log(sums) if op.logarithm else jnp.exp(shifted) / sums

    return run


@jax_form(SoftmaxGradient)
def softmax_gradient(op: SoftmaxGradient) -> Form:
    """The gradient of the input of softmax, from its output."""

    def run(y: jax.Array, g: jax.Array) -> jax.Array:
        if op.logarithm:
            return g - jnp.exp(y) * g.sum(axis=-1, keepdims=True)
        return y * (g - (y * g).sum(axis=-1, keepdims=True))

    return run


@jax_form(CrossEntropy)
def cross_entropy(op: CrossEntropy) -> Form:
    """Losses (N,), and the shifts and inverse sums of the rows (N, 2)."""

    def run(
        logits: jax.Array, targets: jax.Array, smoothing: jax.Array, *mask: jax.Array
    ) -> tuple[jax.Array, ...]:
        weights = mask[0] if mask else jnp.ones(len(logits), logits.dtype)
        counted = weights != 0
        shift = _shift(logits)
        x = logits - shift
        sums = jnp.exp(x).sum(axis=1)
        chosen = jnp.take_along_axis(x, targets[:, None], axis=1, mode="clip")[:, 0]
        smooth = jnp.where(smoothing > 0, smoothing * x.mean(axis=1), 0)  # 0 · -inf is no number
        each = jnp.log(sums) - (1 - smoothing) * chosen - smooth
        normalizers = jnp.stack([shift[:, 0], 1 / sums], axis=1)
        return jnp.where(counted, each * weights, 0), jnp.where(counted[:, None], normalizers, 0)

    return run


@jax_form(CrossEntropyGradient)
def cross_entropy_gradient(op: CrossEntropyGradient) -> Form:
    """The gradient of the logits."""

    def run(
        logits: jax.Array,
        targets: jax.Array,
        smoothing: jax.Array,
        normalizers: jax.Array,
        g: jax.Array,
        *mask: jax.Array,
    ) -> jax.Array:
        weights = g * mask[0] if mask else g
        counted = mask[0] != 0 if mask else jnp.ones(len(logits), bool)
        shift, inverse = normalizers[:, :1], normalizers[:, 1:]
        d = jnp.exp(logits - shift) * inverse - smoothing / logits.shape[1]
        hit = jnp.arange(logits.shape[1], dtype=targets.dtype) == targets[:, None]
        d = d - jnp.where(hit, 1 - smoothing, 0)
        return jnp.where(counted[:, None], d * weights[:, None], 0)

    return run
