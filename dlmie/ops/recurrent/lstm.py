"""LSTM over a whole sequence; kernels in ``lstm.c``."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.differentiation import (
    PartlyDifferentiable,
    as_mask,
    connected,
    disconnected,
    same_precision,
)
from dlmie.ops.runtime.kernel_op import KernelOp


def sigmoid(x: np.ndarray, xp: ModuleType = np) -> np.ndarray:
    """The logistic function, without overflow; of arrays of ``xp``, which may be jax.numpy."""
    return (0.5 + 0.5 * xp.tanh(0.5 * x)).astype(x.dtype)


def cell(
    gates: np.ndarray, c: np.ndarray, xp: ModuleType = np
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step: gates before activation (B, 4H), c (B, H) → h, c, activated gates."""
    hidden = c.shape[1]
    i, f, o = xp.split(sigmoid(gates[:, : 3 * hidden], xp), 3, axis=1)
    g = xp.tanh(gates[:, 3 * hidden :])
    c = f * c + i * g
    return o * xp.tanh(c), c, xp.concatenate([i, f, o, g], axis=1)


def cell_gradient(
    d_h: np.ndarray,
    d_c: np.ndarray,
    gates: np.ndarray,
    c: np.ndarray,
    c_before: np.ndarray,
    xp: ModuleType = np,
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of h and c, activated gates → those of its inputs and of c_{t-1}."""
    i, f, o, g = xp.split(gates, 4, axis=1)
    squashed = xp.tanh(c)
    d = d_c + d_h * o * (1 - squashed**2)
    d_gates = [
        d * g * i * (1 - i),
        d * c_before * f * (1 - f),
        d_h * squashed * o * (1 - o),
        d * i * (1 - g**2),
    ]
    return xp.concatenate(d_gates, axis=1), d * f


class LSTMSequence(PartlyDifferentiable):
    """(xp, h0, c0, W_h[, mask]) → h, c and the activated gates, which backward needs."""

    kernel = "lstm"
    weights = (3,)
    __props__ = ("has_mask",)
    differentiable = 4

    def __init__(self, has_mask: bool) -> None:
        super().__init__()
        self.has_mask = has_mask

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        xp, h0 = inputs[:2]
        time, batch, _ = xp.type.shape
        hidden = h0.type.shape[1]
        state = TensorType(xp.type.dtype, shape=(time, batch, hidden))
        return [state, state, TensorType(xp.type.dtype, shape=xp.type.shape)]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        (time, batch, width), (_, hidden) = shapes[:2]
        return [(time, batch, hidden), (time, batch, hidden), (time, batch, width)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        xp, h, c = inputs[:3]
        w = inputs[3].astype(xp.dtype, copy=False)
        hs, cs, all_gates = [], [], []
        for t in range(len(xp)):
            h_new, c_new, gates = cell(xp[t] + h @ w, c)
            if self.has_mask:
                keep = inputs[4][t, :, None] != 0
                h_new, c_new = np.where(keep, h_new, h), np.where(keep, c_new, c)
                gates = np.where(keep, gates, 0)
            h, c = h_new, c_new
            hs.append(h)
            cs.append(c)
            all_gates.append(gates)
        shape = (*xp.shape[:2], h.shape[1])
        outputs[0][0] = np.array(hs, dtype=xp.dtype).reshape(shape)
        outputs[1][0] = np.array(cs, dtype=xp.dtype).reshape(shape)
        outputs[2][0] = np.array(all_gates, dtype=xp.dtype).reshape(xp.shape)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _, h0, c0, w, *mask = inputs
        h, c, gates = outputs
        given = [connected(g) for g in cotangents[:2]]
        present = [g for g in cotangents[:2] if connected(g)]
        gradient = LSTMGradient(self.has_mask, *given)
        d_xp, d_h0, d_c0, d_w = gradient(w, h0, c0, h, c, gates, *mask, *present)
        return [d_xp, d_h0, d_c0, d_w, *disconnected(len(mask))]


class LSTMGradient(KernelOp):
    """(W_h, h0, c0, h, c, gates[, mask][, d_h][, d_c]) → gradients of xp, h0, c0 and W_h."""

    kernel = "lstm_gradient"
    __props__ = ("has_mask", "has_d_h", "has_d_c")
    outputs_like = (5, 1, 2, 0)

    def __init__(self, has_mask: bool, has_d_h: bool, has_d_c: bool) -> None:
        super().__init__()
        self.has_mask, self.has_d_h, self.has_d_c = has_mask, has_d_h, has_d_c

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        w, h0, c0, h, c, gates, *rest = inputs
        mask = rest.pop(0) if self.has_mask else None
        g_h = rest.pop(0) if self.has_d_h else np.zeros_like(h)
        g_c = rest.pop(0) if self.has_d_c else np.zeros_like(c)
        d_xp, d_w = np.zeros_like(gates), np.zeros_like(w)
        d_h, d_c = np.zeros_like(h0), np.zeros_like(c0)
        for t in reversed(range(len(h))):
            d_h, d_c = d_h + g_h[t], d_c + g_c[t]
            d_gates, d_c_before = cell_gradient(d_h, d_c, gates[t], c[t], c[t - 1] if t else c0)
            keep = 1 if mask is None else mask[t, :, None] != 0
            d_xp[t] = d_gates * keep
            d_w += (h[t - 1] if t else h0).T @ d_xp[t]
            d_h = np.where(keep, 0, d_h) + d_xp[t] @ w.T
            d_c = np.where(keep, d_c_before, d_c)
        for storage, value in zip(outputs, (d_xp, d_h, d_c, d_w), strict=True):
            storage[0] = value.astype(w.dtype)


def lstm_sequence(
    xp: Any, h0: Any, c0: Any, W_h: Any, mask: Any = None
) -> tuple[Variable, Variable]:
    """Long short-term memory over a sequence (Hochreiter & Schmidhuber 1997, Gers et al. 2000).

    ``i, f, o = σ(·)``, ``g = tanh(·)`` of ``xp_t + h_{t-1} W_h``;
    ``c_t = f c_{t-1} + i g``, ``h_t = o tanh(c_t)``.

    Parameters
    ----------
    xp : (time, batch, 4 hidden)
        The input's part of the gates in the order i, f, o, g, bias included: ``x W_x + b``.
    h0, c0 : (batch, hidden)
        State before the first step.
    W_h : (hidden, 4 hidden)
    mask : (time, batch), optional
        Where it is 0 the state is carried over unchanged.

    Returns
    -------
    h, c : (time, batch, hidden)
        The state after every step.
    """
    variables = same_precision(xp, h0, c0, W_h)
    op = LSTMSequence(mask is not None)
    h, c, _ = op(*variables, *as_mask(mask, variables[0].type.dtype))
    return h, c
