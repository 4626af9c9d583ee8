"""The attention LSTM over a whole sequence; equations and kernel in ``attention_lstm.c``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_undefined
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.recurrent.lstm import cell, cell_gradient, sigmoid
from dlmie.ops.runtime.differentiation import connected, disconnected
from dlmie.ops.runtime.kernel_op import KernelOp

SCORES = ("tanh", "relu", "dot")

# Names of the inputs that are always there, of the optional ones, and of the outputs.
_INPUTS = ("xp", "a", "p", "h0", "c0", "W_h", "W_z", "W_q", "v")
_GATE, _MASK, _HARD = ("W_beta", "b_beta"), ("mask",), ("u", "sampled")
_WEIGHTS = ("W_h", "W_z", "W_q", "W_beta")
_OUTPUTS = ("h", "c", "alpha", "z", "beta", "context", "gates", "q", "weights")
_COTANGENTS = ("d_h", "d_c", "d_alpha", "d_z", "d_beta")


class _AttentionOp(KernelOp):
    __props__ = ("score", "has_gate", "has_mask", "is_hard")

    def __init__(self, score: str, has_gate: bool, has_mask: bool, is_hard: bool) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"unknown score {score!r}: use one of {', '.join(SCORES)}")
        self.score, self.has_gate = score, has_gate
        self.has_mask, self.is_hard = has_mask, is_hard

    def parameters(self) -> Sequence[int]:
        return SCORES.index(self.score), self.has_gate, self.has_mask, self.is_hard

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the inputs that have gradients."""
        return _INPUTS + (_GATE if self.has_gate else ())

    @property
    def input_names(self) -> tuple[str, ...]:
        mask = _MASK if self.has_mask else ()
        return self.learned + mask + (_HARD if self.is_hard else ())


class AttentionLSTM(_AttentionOp):
    """Forward: see :func:`attention_lstm_sequence`."""

    kernel = "attention_lstm"

    def __init__(self, score: str, has_gate: bool, has_mask: bool, is_hard: bool) -> None:
        super().__init__(score, has_gate, has_mask, is_hard)
        self.weights = [i for i, name in enumerate(self.input_names) if name in _WEIGHTS]

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        x = dict(zip(self.input_names, (v.type for v in inputs), strict=True))
        time, batch, wide = x["xp"].shape
        cells, channels = x["a"].shape[1:]
        hidden, attention = x["h0"].shape[1], x["p"].shape[2]
        gate = x["W_beta"].shape[1] if self.has_gate else 0
        last = (hidden, hidden, cells, channels, gate, channels, wide, attention, cells)
        return [TensorType(x["xp"].dtype, shape=(time, batch, n)) for n in last]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        x = dict(zip(self.input_names, shapes, strict=True))
        time, batch, wide = x["xp"]
        cells, channels = x["a"][1:]
        hidden, attention = x["h0"][1], x["p"][2]
        gate = x["W_beta"][1] if self.has_gate else np.int64(0)
        last = (hidden, hidden, cells, channels, gate, channels, wide, attention, cells)
        return [(time, batch, n) for n in last]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x = dict(zip(self.input_names, inputs, strict=True))
        x |= {n: x[n].astype(x["xp"].dtype, copy=False) for n in _WEIGHTS if n in x}
        beams = x["xp"].shape[1] // x["a"].shape[0]
        a, p = np.repeat(x["a"], beams, axis=0), np.repeat(x["p"], beams, axis=0)
        h, c = x["h0"], x["c0"]
        steps: list[tuple[np.ndarray, ...]] = []
        for t in range(len(x["xp"])):
            q = h @ x["W_q"]
            alpha = _softmax(_scores(self.score, p, q, x["v"]))
            weights = alpha.copy()
            if self.is_hard:
                drawn = (x["u"][t][:, None] >= np.cumsum(alpha, axis=1)).sum(axis=1)
                one_hot = np.eye(alpha.shape[1], dtype=alpha.dtype)
                drawn = np.minimum(drawn, alpha.shape[1] - 1)
                weights = np.where(x["sampled"][t][:, None] != 0, one_hot[drawn], alpha)
            context = np.einsum("bl,bld->bd", weights, a)
            beta = np.zeros((len(h), 0), h.dtype)
            z = context
            if self.has_gate:
                beta = sigmoid(h @ x["W_beta"] + x["b_beta"])
                z = beta * context
            new_h, new_c, gates = cell(x["xp"][t] + h @ x["W_h"] + z @ x["W_z"], c)
            if self.has_mask:
                kept = x["mask"][t][:, None] != 0
                new_h, new_c = np.where(kept, new_h, h), np.where(kept, new_c, c)
                gates = np.where(kept, gates, 0)
            h, c = new_h, new_c
            steps.append((h, c, alpha, z, beta, context, gates, q, weights))
        for storage, values in zip(outputs, zip(*steps, strict=True), strict=True):
            storage[0] = np.stack(values).astype(x["xp"].dtype)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """What backward needs of the forward pass (context, gates, …) is not for others."""
        outputs = [i < len(_COTANGENTS) for i in range(len(node.outputs))]
        return [[name in self.learned and shown for shown in outputs] for name in self.input_names]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        given = [
            g if connected(g) else pt.zeros_like(out)
            for out, g in zip(outputs[: len(_COTANGENTS)], cotangents, strict=False)
        ]
        backward = AttentionLSTMGradient(self.score, self.has_gate, self.has_mask, self.is_hard)
        gradients = list(backward(*inputs, *outputs, *given))
        return gradients + disconnected(len(inputs) - len(gradients))


class AttentionLSTMGradient(_AttentionOp):
    """Backward; inputs: those of the forward pass, its outputs, and five cotangents."""

    kernel = "attention_lstm_backward"

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return [v.type for v in inputs[: len(self.learned)]]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return list(shapes[: len(self.learned)])

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        names = (*self.input_names, *_OUTPUTS, *_COTANGENTS)
        gradients = self._backward(dict(zip(names, inputs, strict=True)))
        for name, storage in zip(self.learned, outputs, strict=True):
            storage[0] = gradients[name].astype(inputs[0].dtype)

    def _backward(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        d = {name: np.zeros_like(x[name]) for name in self.learned}
        dh, dc = np.zeros_like(x["h0"]), np.zeros_like(x["c0"])
        for t in reversed(range(len(x["xp"]))):
            h_before, c_before = (x["h"][t - 1], x["c"][t - 1]) if t else (x["h0"], x["c0"])
            dh, dc = dh + x["d_h"][t], dc + x["d_c"][t]
            kept = x["mask"][t][:, None] != 0 if self.has_mask else np.ones((len(dh), 1), bool)
            d_gates, d_c_before = cell_gradient(dh, dc, x["gates"][t], x["c"][t], c_before)
            d_gates = np.where(kept, d_gates, 0)
            dc = np.where(kept, d_c_before, dc)
            dh = np.where(kept, 0, dh)
            d["xp"][t] = d_gates
            d["W_z"] += x["z"][t].T @ d_gates
            d["W_h"] += h_before.T @ d_gates
            dh = dh + d_gates @ x["W_h"].T
            d_z = d_gates @ x["W_z"].T + x["d_z"][t]
            d_context = d_z
            if self.has_gate:
                beta = x["beta"][t]
                d_beta = d_z * x["context"][t]
                if beta.shape[1] == 1:
                    d_beta = d_beta.sum(axis=1, keepdims=True)
                d_beta = (d_beta + x["d_beta"][t]) * beta * (1 - beta)
                d["W_beta"] += h_before.T @ d_beta
                d["b_beta"] += d_beta.sum(axis=0)
                dh = dh + d_beta @ x["W_beta"].T
                d_context = d_z * beta
            d["a"] += np.einsum("bl,bd->bld", x["weights"][t], d_context)
            d_alpha = np.einsum("bd,bld->bl", d_context, x["a"])
            if self.is_hard:  # a drawn cell passes no gradient to the probabilities
                d_alpha = np.where(x["sampled"][t][:, None] != 0, 0, d_alpha)
            d_alpha = d_alpha + x["d_alpha"][t]
            alpha = x["alpha"][t]
            d_score = alpha * (d_alpha - (d_alpha * alpha).sum(axis=1, keepdims=True))
            d_p, d_q, d_v = _score_gradients(self.score, x["p"], x["q"][t], x["v"], d_score)
            d["p"] += d_p
            d["v"] += d_v
            d["W_q"] += h_before.T @ d_q
            dh = dh + d_q @ x["W_q"].T
        d["h0"], d["c0"] = dh, dc
        return d

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [grad_undefined(self, i, x) for i, x in enumerate(inputs)]


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _scores(score: str, p: np.ndarray, q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """p (batch, cells, A), q (batch, A), v (A,) → (batch, cells)."""
    if score == "dot":
        return np.einsum("bla,ba->bl", p, q) / np.sqrt(p.shape[2], dtype=p.dtype)
    y = p + q[:, None]
    return (np.tanh(y) if score == "tanh" else np.maximum(y, 0)) @ v


def _score_gradients(
    score: str, p: np.ndarray, q: np.ndarray, v: np.ndarray, d: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of the scores with respect to p, q and v, given those of the scores."""
    if score == "dot":
        scaled = d / np.sqrt(p.shape[2], dtype=p.dtype)
        d_q = np.einsum("bl,bla->ba", scaled, p)
        return scaled[:, :, None] * q[:, None], d_q, np.zeros_like(v)
    y = p + q[:, None]
    value, slope = (
        (np.tanh(y), 1 - np.tanh(y) ** 2) if score == "tanh" else (np.maximum(y, 0), y > 0)
    )
    d_p = d[:, :, None] * v * slope
    return d_p, d_p.sum(axis=1), np.einsum("bl,bla->a", d, value)


class Attended(NamedTuple):
    """What :func:`attention_lstm_sequence` gives, time first."""

    h: Variable  # (time, batch, hidden)
    c: Variable  # (time, batch, hidden)
    alpha: Variable  # (time, batch, cells): the attention
    z: Variable  # (time, batch, channels): the gated context
    beta: Variable  # (time, batch, 1, channels or 0): the gate
    weights: Variable  # (time, batch, cells): alpha, or one-hot where a cell was drawn


def attention_lstm_sequence(
    xp: Variable,
    a: Variable,
    p: Variable,
    h0: Variable,
    c0: Variable,
    W_h: Variable,
    W_z: Variable,
    W_q: Variable,
    v: Variable,
    *,
    gate: tuple[Variable, Variable] | None = None,
    mask: Variable | None = None,
    hard: tuple[Variable, Variable] | None = None,
    score: str = "tanh",
) -> Attended:
    """An LSTM that attends to annotations before each step (Xu et al., ICML 2015).

    Parameters
    ----------
    xp : (time, batch, 4 × hidden)
        The input's part of the gates i, f, o, g, bias included.
    a : (images, cells, channels)
        Annotations; batch is a multiple of images, and the rows of one image stand together.
    p : (images, cells, attention)
        Projected annotations ``a W_a + b_a``.
    h0, c0 : (batch, hidden)
    W_h : (hidden, 4 × hidden), W_z : (channels, 4 × hidden), W_q : (hidden, attention)
    v : (attention,)
        Weights of the score; unused by score "dot".
    gate : (W_beta, b_beta), optional
        (hidden, G) and (G,): the selector, one number (G = 1) or one per channel.
    mask : (time, batch), optional
        Where 0, the state is carried over.
    hard : (u, sampled), optional
        (time, batch) each: uniform numbers that draw a cell, and whether (not 0) to use the drawn
        cell instead of the expectation.  No gradient flows through a draw into alpha: add
        REINFORCE's through the output ``alpha``.
    score : str
        "tanh", "relu" or "dot" (scaled by 1 / sqrt(attention)).

    Raises
    ------
    ValueError
        When called, for sizes that do not fit; with gradients, if images ≠ batch.
    """
    op = AttentionLSTM(score, gate is not None, mask is not None, hard is not None)
    optional = [*(gate or ()), *(() if mask is None else (mask,)), *(hard or ())]
    h, c, alpha, z, beta, _, _, _, weights = op(xp, a, p, h0, c0, W_h, W_z, W_q, v, *optional)
    return Attended(h, c, alpha, z, beta, weights)
