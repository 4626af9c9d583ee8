"""Dropout and uniform noise in JAX: the same integers as ``noise.c``."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from dlmie.ops.random.noise import Dropout, Uniform
from dlmie.ops.runtime.jax_forms import Form, jax_form


def _mix(z: jax.Array) -> jax.Array:
    z = (z ^ (z >> jnp.uint64(30))) * jnp.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> jnp.uint64(27))) * jnp.uint64(0x94D049BB133111EB)
    return z ^ (z >> jnp.uint64(31))


def _draw(key: jax.Array, salt: int, shape: tuple[int, ...]) -> jax.Array:
    """The 64-bit integers of stream (key, salt)."""
    start = jnp.asarray(key, jnp.int64).astype(jnp.uint64)
    stream = _mix(_mix(start) + jnp.uint64(salt))
    index = jnp.arange(math.prod(shape), dtype=jnp.uint64)
    return _mix(stream + index * jnp.uint64(0x9E3779B97F4A7C15)).reshape(shape)


@jax_form(Dropout)
def dropout(op: Dropout) -> Form:
    """Inverted dropout."""

    def run(x: jax.Array, key: jax.Array, rate: jax.Array) -> jax.Array:
        share = jnp.asarray(rate).astype(jnp.float64)
        limit = (share * 2.0**32).astype(jnp.uint64)
        kept = (_draw(key, op.salt, x.shape) >> jnp.uint64(32)) >= limit
        return jnp.where(kept, x * (1 / (1 - share)).astype(x.dtype), 0)

    return run


@jax_form(Uniform)
def uniform(op: Uniform) -> Form:
    """Numbers in [0, 1), shaped like the first input."""

    def run(like: jax.Array, key: jax.Array) -> jax.Array:
        numbers = _draw(key, op.salt, like.shape) >> jnp.uint64(40)
        return (numbers.astype(jnp.float64) / 2.0**24).astype(like.dtype)

    return run
