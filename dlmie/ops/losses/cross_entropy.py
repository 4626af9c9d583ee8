"""Softmax, log-softmax and cross-entropy over many classes; kernels in ``crossentropy.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.differentiation import (
    PartlyDifferentiable,
    as_ids,
    as_mask,
    connected,
    disconnected,
)
from dlmie.ops.runtime.inplace import Overwriting


def _shift(x: np.ndarray) -> np.ndarray:
    """What to subtract from each row before taking exponentials."""
    top = x.max(axis=-1, keepdims=True)
    return np.where(np.isinf(top), 0, top).astype(x.dtype)


class Softmax(Overwriting):
    """Softmax over the last axis, or its logarithm."""

    kernel = "softmax"
    __props__ = ("logarithm", "overwrites")
    overwritable = ({0: 0},)

    def __init__(self, logarithm: bool, overwrites: int | None = None) -> None:
        self.logarithm = logarithm
        super().__init__(overwrites)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        shifted = x - _shift(x)
        sums = np.exp(shifted).sum(axis=-1, keepdims=True)
        outputs[0][0] = shifted - np.log(sums) if self.logarithm else np.exp(shifted) / sums

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [SoftmaxGradient(self.logarithm)(outputs[0], cotangents[0])]


class SoftmaxGradient(Overwriting):
    """(y, g) → the gradient of the input of :class:`Softmax`, whose output y is."""

    kernel = "softmax_gradient"
    __props__ = ("logarithm", "overwrites")
    overwritable = ({0: 1}, {0: 0})

    def __init__(self, logarithm: bool, overwrites: int | None = None) -> None:
        self.logarithm = logarithm
        super().__init__(overwrites)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        y, g = inputs
        if self.logarithm:
            result = g - np.exp(y) * g.sum(axis=-1, keepdims=True)
        else:
            result = y * (g - (y * g).sum(axis=-1, keepdims=True))
        outputs[0][0] = result.astype(y.dtype)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        (y, g), (k,) = inputs, cotangents  # in plain terms: second derivatives are rare
        if self.logarithm:
            p = pt.exp(y)
            d_g = k - pt.sum(k * p, axis=-1, keepdims=True)
            return [-k * p * pt.sum(g, axis=-1, keepdims=True), d_g]
        inner = pt.sum(y * g, axis=-1, keepdims=True)
        along = pt.sum(k * y, axis=-1, keepdims=True)
        return [k * (g - inner) - along * g, y * (k - along)]


class CrossEntropy(PartlyDifferentiable):
    """(logits, targets, smoothing[, mask]) → losses (N,), and what backward needs (N, 2)."""

    kernel = "cross_entropy"
    __props__ = ("has_mask",)
    differentiable = 1

    def __init__(self, has_mask: bool) -> None:
        super().__init__()
        self.has_mask = has_mask

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        rows, dtype = inputs[0].type.shape[0], inputs[0].type.dtype
        return [TensorType(dtype, shape=(rows,)), TensorType(dtype, shape=(rows, 2))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [(shapes[0][0],), (shapes[0][0], 2)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        logits, targets, smoothing, *mask = inputs
        weights = mask[0] if mask else np.ones(len(logits), logits.dtype)
        counted = weights != 0
        classes = logits.shape[1]
        wrong = counted & ((targets < 0) | (targets >= classes))
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise ValueError(
                f"cross_entropy: target {targets[i]} of row {i} is not in [0, {classes})"
            )
        x = logits[counted]
        shift = _shift(x)
        sums = np.exp(x - shift).sum(axis=1)
        chosen = np.take_along_axis(x - shift, targets[counted][:, None], axis=1)[:, 0]
        each = np.log(sums) - (1 - smoothing) * chosen
        if smoothing > 0:
            each -= smoothing * (x - shift).mean(axis=1)
        losses, normalizers = np.zeros_like(weights), np.zeros((len(logits), 2), logits.dtype)
        losses[counted] = each * weights[counted]
        normalizers[counted] = np.stack([shift[:, 0], 1 / sums], axis=1)
        outputs[0][0], outputs[1][0] = losses, normalizers

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        logits, targets, smoothing, *mask = inputs
        if connected(cotangents[1]):
            raise NotImplementedError("cross_entropy: its second output is for backward only")
        gradient = CrossEntropyGradient(self.has_mask)
        d_logits = gradient(logits, targets, smoothing, outputs[1], cotangents[0], *mask)
        return [d_logits, *disconnected(2 + len(mask))]


class CrossEntropyGradient(Overwriting):
    """(logits, targets, smoothing, normalizers, g[, mask]) → the gradient of the logits."""

    kernel = "cross_entropy_gradient"
    __props__ = ("has_mask", "overwrites")
    overwritable = ({0: 0},)  # the largest array of a captioner: (time × batch, words)

    def __init__(self, has_mask: bool, overwrites: int | None = None) -> None:
        self.has_mask = has_mask
        super().__init__(overwrites)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        logits, targets, smoothing, normalizers, g, *mask = inputs
        weights = g * mask[0] if mask else g
        counted = mask[0] != 0 if mask else np.ones(len(logits), bool)
        shift, inverse = normalizers.T[:, :, None]
        d = np.exp(logits - shift) * inverse - smoothing / logits.shape[1]
        rows = np.flatnonzero(counted)
        d[rows, targets[rows]] -= 1 - smoothing
        outputs[0][0] = np.where(counted[:, None], d * weights[:, None], 0).astype(logits.dtype)


def softmax(x: Any) -> Variable:
    """``e^x / Σ e^x`` over the last axis of a float tensor of any shape."""
    return Softmax(False)(pt.as_tensor_variable(x))


def log_softmax(x: Any) -> Variable:
    """``x - log Σ e^x`` over the last axis of a float tensor of any shape."""
    return Softmax(True)(pt.as_tensor_variable(x))


def softmax_cross_entropy(
    logits: Any, targets: Any, mask: Any = None, label_smoothing: float | Variable = 0.0
) -> Variable:
    """Negative log-likelihood of integer targets, without one-hot vectors.

    ``loss = log Σ_j e^{x_j} - (1 - s) x_target - s / V Σ_j x_j`` with smoothing s (Szegedy et al.
    2016); s = 0 is the plain cross-entropy.

    Parameters
    ----------
    logits : (rows, classes)
    targets : integers (rows,)
        In [0, classes) wherever the mask counts the row.
    mask : (rows,), optional
        Weight of each row, a constant; rows with weight 0 are skipped, whatever their target.
    label_smoothing : float or scalar variable
        Share of each target's probability that is spread over all classes.

    Returns
    -------
    (rows,)
        Loss of each row, in nats.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.zeros((2, 4), dtype="float32")
    >>> softmax_cross_entropy(logits, np.array([0, 3])).eval().round(4)
    array([1.3863, 1.3863], dtype=float32)
    """
    logits = pt.as_tensor_variable(logits)
    dtype = logits.type.dtype
    smoothing = pt.cast(pt.as_tensor_variable(label_smoothing), dtype)
    op = CrossEntropy(mask is not None)
    losses, _ = op(logits, as_ids(targets), smoothing, *as_mask(mask, dtype))
    return losses
