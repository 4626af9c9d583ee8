"""Vanilla recurrent network over a whole sequence; kernels in ``rnn.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.runtime.differentiation import (
    PartlyDifferentiable,
    as_mask,
    disconnected,
    same_precision,
)
from dlmie.ops.runtime.kernel_op import KernelOp


class RNNSequence(PartlyDifferentiable):
    """(xp, h0, W_h[, mask]) → h."""

    kernel = "rnn"
    __props__ = ("has_mask",)
    differentiable = 3

    def __init__(self, has_mask: bool) -> None:
        super().__init__()
        self.has_mask = has_mask

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        xp, h, w = inputs[:3]
        hs = np.empty_like(xp)
        for t in range(len(xp)):
            h_new = np.tanh(xp[t] + h @ w)
            h = np.where(inputs[3][t, :, None] != 0, h_new, h) if self.has_mask else h_new
            hs[t] = h
        outputs[0][0] = hs

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _, h0, w, *mask = inputs
        gradient = RNNGradient(self.has_mask)
        d_xp, d_h0, d_w = gradient(w, h0, outputs[0], cotangents[0], *mask)
        return [d_xp, d_h0, d_w, *disconnected(len(mask))]


class RNNGradient(KernelOp):
    """(W_h, h0, h, d_h[, mask]) → gradients of xp, h0 and W_h."""

    kernel = "rnn_gradient"
    __props__ = ("has_mask",)
    outputs_like = (2, 1, 0)

    def __init__(self, has_mask: bool) -> None:
        super().__init__()
        self.has_mask = has_mask

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        w, h0, h, g_h = inputs[:4]
        d_xp, d_w, d_h = np.zeros_like(h), np.zeros_like(w), np.zeros_like(h0)
        for t in reversed(range(len(h))):
            d_h = d_h + g_h[t]
            keep = inputs[4][t, :, None] != 0 if self.has_mask else 1
            d_xp[t] = d_h * (1 - h[t] ** 2) * keep
            d_w += (h[t - 1] if t else h0).T @ d_xp[t]
            d_h = np.where(keep, 0, d_h) + d_xp[t] @ w.T
        for storage, value in zip(outputs, (d_xp, d_h, d_w), strict=True):
            storage[0] = value.astype(w.dtype)


def rnn_sequence(xp: Any, h0: Any, W_h: Any, mask: Any = None) -> Variable:
    """Vanilla recurrent network over a sequence: ``h_t = tanh(xp_t + h_{t-1} W_h)``.

    Parameters
    ----------
    xp : (time, batch, hidden)
        The input's part, bias included: ``x W_x + b``.
    h0 : (batch, hidden)
        State before the first step.
    W_h : (hidden, hidden)
    mask : (time, batch), optional
        Where it is 0 the state is carried over unchanged.

    Returns
    -------
    h : (time, batch, hidden)
    """
    variables = same_precision(xp, h0, W_h)
    op = RNNSequence(mask is not None)
    return op(*variables, *as_mask(mask, variables[0].type.dtype))
