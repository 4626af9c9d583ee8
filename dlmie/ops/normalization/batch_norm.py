"""Batch normalization by the batch's own statistics; kernels in ``batch_norm.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import clone_replace

from dlmie.ops.conv import activation as activations
from dlmie.ops.conv.activation import CODES, Kind
from dlmie.ops.runtime.differentiation import (
    PartlyDifferentiable,
    connected,
    disconnected,
    same_precision,
)
from dlmie.ops.runtime.inplace import Overwriting


class BatchNormalize(PartlyDifferentiable):
    """(x, gamma, beta, epsilon) → the normalized x, and mean and biased variance by channel.

    A rewrite joins the activation that follows, once all gradients have been taken
    (:mod:`dlmie.ops.rewrites`).
    """

    kernel = "batch_norm"
    __props__ = ("activation",)
    outputs_like = (0, 1, 1)
    differentiable = 3

    def __init__(self, activation: Kind | None = None) -> None:
        super().__init__()
        self.activation = activation

    def parameters(self) -> Sequence[int]:
        return (CODES[self.activation],)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, gamma, beta, epsilon = inputs
        over, shape = _other_axes(x.ndim), (1, -1, *[1] * (x.ndim - 2))
        mean = x.mean(axis=over, dtype="float64").astype(x.dtype)
        centered = x - mean.reshape(shape)
        variance = (centered**2).mean(axis=over, dtype="float64").astype(x.dtype)
        scale = (gamma / np.sqrt(variance + epsilon)).astype(x.dtype)
        y = centered * scale.reshape(shape) + beta.reshape(shape)
        outputs[0][0] = activations.apply(y, self.activation)
        outputs[1][0], outputs[2][0] = mean, variance

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _refuse_activation(self)
        x, gamma, beta, epsilon = inputs
        _, mean, variance = outputs
        gradients = [pt.zeros_like(x), pt.zeros_like(gamma), pt.zeros_like(beta)]
        g, g_mean, g_variance = cotangents
        if connected(g):
            made = BatchNormalizeGradient()(x, gamma, mean, variance, g, epsilon)
            gradients = [*made]  # not the node's own list, which would be changed
        count = _count(x)
        if connected(g_mean):
            gradients[0] = gradients[0] + _spread(g_mean / count, x)
        if connected(g_variance):
            two = np.asarray(2, x.type.dtype)
            slope = _spread(two * g_variance / count, x)
            gradients[0] = gradients[0] + slope * (x - _spread(mean, x))
        return [*gradients, *disconnected(1)]


class BatchNormalizeGradient(Overwriting, PartlyDifferentiable):
    """(x, gamma, mean, variance, g, epsilon) → the gradients of x, gamma and beta.

    With an activation, which a rewrite joins, g is the gradient of its output, and beta a further
    input: what the activation let through is found again from x.
    """

    kernel = "batch_norm_gradient"
    __props__ = ("activation", "overwrites")
    overwritable = ({0: 4},)
    outputs_like = (0, 1, 1)
    differentiable = 5

    def __init__(self, activation: Kind | None = None, overwrites: int | None = None) -> None:
        self.activation = activation
        super().__init__(overwrites)

    def parameters(self) -> Sequence[int]:
        return (CODES[self.activation],)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, gamma, mean, variance, g, epsilon, *beta = inputs
        over, shape = _other_axes(x.ndim), (1, -1, *[1] * (x.ndim - 2))
        inverse = (1 / np.sqrt(variance + epsilon)).astype(x.dtype)
        normal = (x - mean.reshape(shape)) * inverse.reshape(shape)
        for shift in beta:
            scale = (gamma / np.sqrt(variance + epsilon)).astype(x.dtype)
            y = (x - mean.reshape(shape)) * scale.reshape(shape) + shift.reshape(shape)
            g = np.where(activations.passes(y, self.activation), g, x.dtype.type(0))
        dbeta = g.sum(axis=over, dtype="float64").astype(x.dtype)
        dgamma = (g * normal).sum(axis=over, dtype="float64").astype(x.dtype)
        count = x.dtype.type(max(x.size // max(x.shape[1], 1), 1))
        slope = g - (dbeta.reshape(shape) + normal * dgamma.reshape(shape)) / count
        dx = (gamma * inverse).reshape(shape) * slope
        outputs[0][0], outputs[1][0], outputs[2][0] = dx, dgamma, dbeta

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _refuse_activation(self)
        # On variables of their own: mean and variance follow from x, which is another's gradient.
        own = [variable.type() for variable in inputs]
        made = symbolic_gradient(*own)
        known = {y: c for y, c in zip(made, cotangents, strict=True) if connected(c)}
        found = pytensor.grad(None, own[:5], known_grads=known, disconnected_inputs="ignore")
        gradients = clone_replace(found, dict(zip(own, inputs, strict=True)))
        return [*gradients, *disconnected(1)]


def _refuse_activation(op: BatchNormalize | BatchNormalizeGradient) -> None:
    if op.activation is not None:
        raise NotImplementedError(f"{op} has no gradient: take it before compiling")


def symbolic_gradient(
    x: Variable,
    gamma: Variable,
    mean: Variable,
    variance: Variable,
    g: Variable,
    epsilon: Variable,
) -> list[Variable]:
    """What :class:`BatchNormalizeGradient` computes, in plain PyTensor: for second derivatives."""
    inverse = np.asarray(1, x.type.dtype) / pt.sqrt(variance + epsilon)
    normal = (x - _spread(mean, x)) * _spread(inverse, x)
    over = list(_other_axes(x.type.ndim))
    dbeta, dgamma = g.sum(axis=over), (g * normal).sum(axis=over)
    slope = g - (_spread(dbeta, x) + normal * _spread(dgamma, x)) / _count(x)
    return [_spread(gamma * inverse, x) * slope, dgamma, dbeta]


def batch_normalize(
    x: Any, gamma: Any, beta: Any, epsilon: float = 1e-5
) -> tuple[Variable, Variable, Variable]:
    """Normalize each channel to zero mean and unit variance over a batch, then scale and shift.

    ``y = gamma (x - mean) / √(variance + epsilon) + beta`` (Ioffe and Szegedy 2015, algorithm 1).

    Parameters
    ----------
    x : (batch, channels, ...) float32 or float64
    gamma, beta : (channels,)
    epsilon : float

    Returns
    -------
    y, mean, variance
        Shaped like x; (channels,) both, the variance with the number of values as divisor.

    Examples
    --------
    >>> y, mean, variance = batch_normalize(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), 0.0)
    >>> y.eval().tolist(), mean.eval().tolist(), variance.eval().tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    x, gamma, beta = same_precision(x, gamma, beta)
    if x.type.ndim < 2:
        raise TypeError(f"batch norm needs an axis of channels, not {x.type}")
    y, mean, variance = BatchNormalize()(x, gamma, beta, np.asarray(epsilon, x.type.dtype))
    return y, mean, variance


def _other_axes(ndim: int) -> tuple[int, ...]:
    """All axes but that of channels."""
    return (0, *range(2, ndim))


def _spread(channels: Variable, x: Variable) -> Variable:
    """(channels,) → broadcastable along x."""
    return channels.dimshuffle(["x", 0, *["x"] * (x.type.ndim - 2)])


def _count(x: Variable) -> Variable:
    """Values of each channel, in the precision of x; 1 of none."""
    number = pt.prod([x.shape[axis] for axis in _other_axes(x.type.ndim)])
    return pt.cast(pt.maximum(number, 1), x.type.dtype)
