"""Recurrent sequences in JAX: one ``lax.scan`` forward, one backward."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from dlmie.ops.recurrent import lstm
from dlmie.ops.recurrent.lstm import LSTMGradient, LSTMSequence
from dlmie.ops.recurrent.rnn import RNNGradient, RNNSequence
from dlmie.ops.runtime.jax_forms import Form, jax_form

_Step = tuple[jax.Array, ...]


cell, cell_gradient = partial(lstm.cell, xp=jnp), partial(lstm.cell_gradient, xp=jnp)


def before(first: jax.Array, states: jax.Array) -> jax.Array:
    """The state before each step: (time, …)."""
    return jnp.concatenate([first[None], states[:-1]])


def _kept(mask: jax.Array) -> jax.Array:
    """A step's mask (batch,) → whether each row takes part (batch, 1)."""
    return mask[:, None] != 0


@jax_form(LSTMSequence)
def lstm_sequence(op: LSTMSequence) -> Form:
    """h, c and the activated gates of every step."""

    def run(
        xp: jax.Array, h0: jax.Array, c0: jax.Array, w: jax.Array, *mask: jax.Array
    ) -> tuple[jax.Array, ...]:
        def step(state: _Step, now: _Step) -> tuple[_Step, _Step]:
            h, c = state
            new_h, new_c, gates = cell(now[0] + h @ w, c)
            if op.has_mask:
                kept = _kept(now[1])
                new_h, new_c = jnp.where(kept, new_h, h), jnp.where(kept, new_c, c)
                gates = jnp.where(kept, gates, 0)
            return (new_h, new_c), (new_h, new_c, gates)

        _, made = lax.scan(step, (h0, c0), (xp, *mask))
        return made

    return run


@jax_form(LSTMGradient)
def lstm_gradient(op: LSTMGradient) -> Form:
    """The gradients of xp, h0, c0 and W_h."""

    def run(
        w: jax.Array,
        h0: jax.Array,
        c0: jax.Array,
        h: jax.Array,
        c: jax.Array,
        gates: jax.Array,
        *optional: jax.Array,
    ) -> tuple[jax.Array, ...]:
        rest = iter(optional)
        mask = next(rest) if op.has_mask else jnp.ones(h.shape[:2], h.dtype)
        g_h = next(rest) if op.has_d_h else jnp.zeros(h.shape, h.dtype)
        g_c = next(rest) if op.has_d_c else jnp.zeros(c.shape, c.dtype)

        def step(state: _Step, now: _Step) -> tuple[_Step, jax.Array]:
            gate, c, c_before, mask, g_h, g_c = now
            d_h, d_c, kept = state[0] + g_h, state[1] + g_c, _kept(mask)
            d_gates, d_c_before = cell_gradient(d_h, d_c, gate, c, c_before)
            d_gates = jnp.where(kept, d_gates, 0)
            d_h = jnp.where(kept, 0, d_h) + d_gates @ w.T
            return (d_h, jnp.where(kept, d_c_before, d_c)), d_gates

        start = jnp.zeros(h0.shape, h0.dtype), jnp.zeros(c0.shape, c0.dtype)
        steps = (gates, c, before(c0, c), mask, g_h, g_c)
        (d_h0, d_c0), d_xp = lax.scan(step, start, steps, reverse=True)
        return d_xp, d_h0, d_c0, jnp.einsum("tbh,tbg->hg", before(h0, h), d_xp)

    return run


@jax_form(RNNSequence)
def rnn_sequence(op: RNNSequence) -> Form:
    """h of every step."""

    def run(xp: jax.Array, h0: jax.Array, w: jax.Array, *mask: jax.Array) -> jax.Array:
        def step(h: jax.Array, now: _Step) -> tuple[jax.Array, jax.Array]:
            new = jnp.tanh(now[0] + h @ w)
            new = jnp.where(_kept(now[1]), new, h) if op.has_mask else new
            return new, new

        _, hs = lax.scan(step, h0, (xp, *mask))
        return hs

    return run


@jax_form(RNNGradient)
def rnn_gradient(op: RNNGradient) -> Form:
    """The gradients of xp, h0 and W_h."""

    def run(
        w: jax.Array, h0: jax.Array, h: jax.Array, g_h: jax.Array, *mask: jax.Array
    ) -> tuple[jax.Array, ...]:
        def step(d_h: jax.Array, now: _Step) -> tuple[jax.Array, jax.Array]:
            d_h, h = d_h + now[1], now[0]
            slope = d_h * (1 - h**2)
            if not op.has_mask:
                return slope @ w.T, slope
            kept = _kept(now[2])
            slope = jnp.where(kept, slope, 0)
            return jnp.where(kept, 0, d_h) + slope @ w.T, slope

        start = jnp.zeros(h0.shape, h0.dtype)
        d_h0, d_xp = lax.scan(step, start, (h, g_h, *mask), reverse=True)
        return d_xp, d_h0, jnp.einsum("tbh,tbg->hg", before(h0, h), d_xp)

    return run
