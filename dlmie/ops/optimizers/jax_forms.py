"""Optimizers' rules in JAX."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from dlmie.ops.optimizers.updates import Rule
from dlmie.ops.runtime.jax_forms import Form, jax_form


def _correction(beta: float, t: jax.Array) -> jax.Array:
    """``1 - βᵗ`` to the last digit, in double precision."""
    steps = jnp.asarray(t).astype(jnp.float64)
    return -jnp.expm1(steps * math.log(beta)) if beta else jnp.ones((), jnp.float64)


@jax_form(Rule)
def rule(op: Rule) -> Form:
    """The step, or the parameter after it; the new slots."""
    a, b, epsilon = op.constants

    def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        g, *slots = inputs[op.adds : -2]
        rate, t = inputs[-2:]
        if op.kind == "momentum":
            slots = [a * slots[0] - rate * g]
            step = slots[0]
        elif op.kind == "rmsprop":
            slots = [a * slots[0] + (1 - a) * g**2]
            step = -rate * g / (jnp.sqrt(slots[0]) + epsilon)
        else:
            slots = [a * slots[0] + (1 - a) * g, b * slots[1] + (1 - b) * g**2]
            mean, square = (
                slot / _correction(beta, t).astype(g.dtype)
                for slot, beta in zip(slots, (a, b), strict=True)
            )
            step = -rate * mean / (jnp.sqrt(square) + epsilon)
        return (inputs[0] + step if op.adds else step, *slots)

    return run
