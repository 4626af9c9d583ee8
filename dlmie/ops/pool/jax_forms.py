"""Pooling in JAX."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dlmie.ops.pool.pool import (
    AveragePool,
    AveragePoolGradient,
    MaxPool,
    MaxPoolGradient,
    MaxPoolPick,
    _Pooling,
)
from dlmie.ops.runtime.jax_forms import Form, jax_form, transpose

_Reduction = Callable[[jax.Array, jax.Array], jax.Array]


def _windows(op: _Pooling, x: jax.Array, start: float, combine: _Reduction) -> jax.Array:
    """All windows of each plane, reduced: (batch, channels, rows', columns')."""
    sizes, padding = [], []
    for axis, size in enumerate(x.shape[2:]):
        window, before = op.size[axis] or size, op.padding[axis]
        reached = (op.output_size(axis, size) - 1) * op.stride[axis] + window
        sizes.append(window)
        padding.append((before, max(reached - before - size, 0)))  # the last may hang over
    window_shape, strides = (1, 1, *sizes), (1, 1, *op.stride)
    return lax.reduce_window(x, start, combine, window_shape, strides, ((0, 0), (0, 0), *padding))


def _maxima(op: _Pooling, x: jax.Array) -> jax.Array:
    return _windows(op, x, -jnp.inf, lax.max)


def _divisors(op: _Pooling, axis: int, size: int) -> np.ndarray:
    """How many rows or columns of each window count."""
    edge = op.padding[axis] if op.count_padding else 0
    starts = np.arange(op.output_size(axis, size)) * op.stride[axis] - op.padding[axis]
    stops = np.minimum(starts + (op.size[axis] or size), size + edge)
    return stops - np.maximum(starts, -edge)


def _means(op: _Pooling, x: jax.Array) -> jax.Array:
    rows, columns = (_divisors(op, axis, size) for axis, size in enumerate(x.shape[2:]))
    return _windows(op, x, 0.0, lax.add) / np.outer(rows, columns).astype(x.dtype)


@jax_form(MaxPool)
def max_pool(op: MaxPool) -> Form:
    """The maximum of each window."""
    return partial(_maxima, op)


@jax_form(MaxPoolGradient)
def max_pool_gradient(op: MaxPoolGradient) -> Form:
    """Each gradient where the first maximum of its window stands."""

    def run(x: jax.Array, g: jax.Array) -> jax.Array:
        (d_x,) = jax.vjp(partial(_maxima, op), x)[1](g)
        return d_x

    return run


@jax_form(MaxPoolPick)
def max_pool_pick(op: MaxPoolPick) -> Form:
    """What stands where each window has its first maximum."""

    def run(x: jax.Array, c: jax.Array) -> jax.Array:
        return jax.jvp(partial(_maxima, op), (x,), (c,))[1]

    return run


@jax_form(AveragePool)
def average_pool(op: AveragePool) -> Form:
    """The mean of each window."""
    return partial(_means, op)


@jax_form(AveragePoolGradient)
def average_pool_gradient(op: AveragePoolGradient) -> Form:
    """Each gradient, spread over its window."""
    return partial(transpose, partial(_means, op))
