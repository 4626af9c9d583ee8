"""The attention LSTM in JAX: the steps of its NumPy definition under ``lax.scan``."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from dlmie.ops.attention.attention_lstm import (
    _COTANGENTS,
    _OUTPUTS,
    AttentionLSTM,
    AttentionLSTMGradient,
)
from dlmie.ops.recurrent.jax_forms import before, cell, cell_gradient
from dlmie.ops.runtime.jax_forms import Form, jax_form

_Named = dict[str, jax.Array]
_State = tuple[jax.Array, ...]


def _scores(score: str, p: jax.Array, q: jax.Array, v: jax.Array) -> jax.Array:
    """p (batch, cells, A), q (batch, A), v (A,) → (batch, cells)."""
    if score == "dot":
        return jnp.einsum("bla,ba->bl", p, q) / math.sqrt(p.shape[2])
    y = p + q[:, None]
    return (jnp.tanh(y) if score == "tanh" else jnp.where(y > 0, y, 0)) @ v


def _drawn(alpha: jax.Array, u: jax.Array, sampled: jax.Array) -> jax.Array:
    """One-hot rows where cells are drawn, ``alpha`` elsewhere: (batch, cells)."""
    cells = alpha.shape[1]
    number = (u[:, None] >= jnp.cumsum(alpha, axis=1)).sum(axis=1)
    one_hot = jax.nn.one_hot(jnp.minimum(number, cells - 1), cells, dtype=alpha.dtype)
    return jnp.where(sampled[:, None] != 0, one_hot, alpha)


@jax_form(AttentionLSTM)
def attention_lstm(op: AttentionLSTM) -> Form:
    """The outputs of every step, in the order of ``_OUTPUTS``."""

    def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        x = dict(zip(op.input_names, inputs, strict=True))
        beams = x["xp"].shape[1] // x["a"].shape[0]
        a, p = (jnp.repeat(x[name], beams, axis=0) for name in ("a", "p"))

        def step(state: _State, now: _Named) -> tuple[_State, tuple[jax.Array, ...]]:
            h, c = state
            q = h @ x["W_q"]
            alpha = weights = jax.nn.softmax(_scores(op.score, p, q, x["v"]), axis=1)
            if op.is_hard:
                weights = _drawn(alpha, now["u"], now["sampled"])
            z = context = jnp.einsum("bl,bld->bd", weights, a)
            beta = jnp.zeros((h.shape[0], 0), h.dtype)
            if op.has_gate:
                beta = jax.nn.sigmoid(h @ x["W_beta"] + x["b_beta"])
                z = beta * context
            new_h, new_c, gates = cell(now["xp"] + h @ x["W_h"] + z @ x["W_z"], c)
            if op.has_mask:
                kept = now["mask"][:, None] != 0
                new_h, new_c = jnp.where(kept, new_h, h), jnp.where(kept, new_c, c)
                gates = jnp.where(kept, gates, 0)
            made = (new_h, new_c, alpha, z, beta, context, gates, q, weights)
            return (new_h, new_c), made

        steps = {name: x[name] for name in ("xp", "mask", "u", "sampled") if name in x}
        _, outputs = lax.scan(step, (x["h0"], x["c0"]), steps)
        return outputs

    return run


@jax_form(AttentionLSTMGradient)
def attention_lstm_gradient(op: AttentionLSTMGradient) -> Form:
    """The gradients of what the operation learns, by its formulas from the last step to the first.

    Weights get theirs after the scan: one product of matrices over all steps.
    """

    def run(*inputs: jax.Array) -> tuple[jax.Array, ...]:
        x = dict(zip((*op.input_names, *_OUTPUTS, *_COTANGENTS), inputs, strict=True))
        h_before, c_before = before(x["h0"], x["h"]), before(x["c0"], x["c"])

        def step(state: _State, now: _Named) -> tuple[_State, _State]:
            d_h, d_c, d_a, d_p, d_v = state
            d_h, d_c = d_h + now["d_h"], d_c + now["d_c"]
            d_gates, d_c_before = cell_gradient(d_h, d_c, now["gates"], now["c"], now["c_before"])
            if op.has_mask:
                kept = now["mask"][:, None] != 0
                d_gates, d_h = jnp.where(kept, d_gates, 0), jnp.where(kept, 0, d_h)
                d_c = jnp.where(kept, d_c_before, d_c)
            else:
                d_h, d_c = jnp.zeros_like(d_h), d_c_before
            d_h = d_h + d_gates @ x["W_h"].T
            d_context = d_z = d_gates @ x["W_z"].T + now["d_z"]
            d_beta = jnp.zeros((d_h.shape[0], 0), d_h.dtype)
            if op.has_gate:
                beta = now["beta"]
                d_beta = d_z * now["context"]
                if beta.shape[1] == 1:
                    d_beta = d_beta.sum(axis=1, keepdims=True)
                d_beta = (d_beta + now["d_beta"]) * beta * (1 - beta)
                d_h = d_h + d_beta @ x["W_beta"].T
                d_context = d_z * beta
            d_a = d_a + now["weights"][:, :, None] * d_context[:, None]
            d_alpha = jnp.einsum("bd,bld->bl", d_context, x["a"])
            if op.is_hard:  # a drawn cell passes no gradient to the probabilities
                d_alpha = jnp.where(now["sampled"][:, None] != 0, 0, d_alpha)
            d_alpha, alpha = d_alpha + now["d_alpha"], now["alpha"]
            d_score = alpha * (d_alpha - (d_alpha * alpha).sum(axis=1, keepdims=True))
            more_p, d_q, more_v = _score_gradients(op.score, x["p"], now["q"], x["v"], d_score)
            d_h = d_h + d_q @ x["W_q"].T
            return (d_h, d_c, d_a, d_p + more_p, d_v + more_v), (d_gates, d_q, d_beta)

        names = ("mask", "sampled", *_OUTPUTS, *_COTANGENTS)
        steps = {name: x[name] for name in names if name in x} | {"c_before": c_before}
        start = tuple(jnp.zeros(x[k].shape, x[k].dtype) for k in ("h0", "c0", "a", "p", "v"))
        state, (d_xp, d_q, d_beta) = lax.scan(step, start, steps, reverse=True)
        d = dict(zip(("h0", "c0", "a", "p", "v"), state, strict=True))
        d |= {"xp": d_xp, "W_h": _over_steps(h_before, d_xp), "W_z": _over_steps(x["z"], d_xp)}
        d["W_q"] = _over_steps(h_before, d_q)
        if op.has_gate:
            d |= {"W_beta": _over_steps(h_before, d_beta), "b_beta": d_beta.sum(axis=(0, 1))}
        return tuple(d[name] for name in op.learned)

    return run


def _score_gradients(
    score: str, p: jax.Array, q: jax.Array, v: jax.Array, d: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of the scores with respect to p, q and v, given those of the scores."""
    _, pull = jax.vjp(lambda p, q, v: _scores(score, p, q, v), p, q, v)
    d_p, d_q, d_v = pull(d)
    return d_p, d_q, d_v


def _over_steps(inputs: jax.Array, gradients: jax.Array) -> jax.Array:
    """The gradient of the weights between two of every step: (time, batch, …) both."""
    return jnp.einsum("tbi,tbj->ij", inputs, gradients)
