"""Batch normalization (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph.network import parameter


class BatchNorm:
    """Normalize each channel (axis 1) to zero mean and unit variance, then scale and shift.

    Trained statistics are running averages: ``running = momentum * running + (1 - momentum) *
    batch`` with the biased variance, as cs231n does.

    Parameters
    ----------
    name : str
        Prefix of the parameters ``gamma``, ``beta`` and the statistics ``mean``, ``variance``, all
        (channels,).
    """

    def __init__(
        self,
        name: str,
        channels: int,
        *,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        dtype: str = "float32",
    ) -> None:
        ones, zeros = np.ones(channels, dtype), np.zeros(channels, dtype)
        self.gamma = parameter(f"{name}/gamma", ones)
        self.beta = parameter(f"{name}/beta", zeros)
        self.mean = parameter(f"{name}/mean", zeros, trainable=False)
        self.variance = parameter(f"{name}/variance", ones, trainable=False)
        self.epsilon = np.asarray(epsilon, dtype)
        self.momentum = np.asarray(momentum, dtype)

    def __call__(self, x: Variable) -> Variable:
        """Inference: x (batch, channels, ...) with the running statistics, one scale and shift."""
        scale = self.gamma / pt.sqrt(self.variance + self.epsilon)
        shift = self.beta - self.mean * scale
        axes = ["x", 0, *["x"] * (x.type.ndim - 2)]
        return x * scale.dimshuffle(axes) + shift.dimshuffle(axes)

    def train(self, x: Variable) -> tuple[Variable, list[tuple[Variable, Variable]]]:
        """Training: normalize by the batch's own statistics.

        Returns the normalized x and the updates of the running statistics.
        """
        over = [i for i in range(x.type.ndim) if i != 1]
        axes = ["x", 0, *["x"] * (x.type.ndim - 2)]
        mean = x.mean(axis=over)
        centered = x - mean.dimshuffle(axes)
        variance = (centered**2).mean(axis=over)
        normal = centered / pt.sqrt(variance + self.epsilon).dimshuffle(axes)
        y = normal * self.gamma.dimshuffle(axes) + self.beta.dimshuffle(axes)
        kept, new = self.momentum, np.asarray(1, self.momentum.dtype) - self.momentum
        return y, [
            (self.mean, kept * self.mean + new * mean),
            (self.variance, kept * self.variance + new * variance),
        ]


def fold_batch_norm(
    W: np.ndarray,
    b: np.ndarray | None,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias of the one convolution that equals convolution + batch norm at inference.

    W is (filters, ...); the rest (filters,).  Computed in float64, returned in W's dtype.
    """
    scale = gamma.astype("float64") / np.sqrt(variance.astype("float64") + epsilon)
    offset = mean.astype("float64") if b is None else mean.astype("float64") - b
    folded = W * scale.reshape(-1, *[1] * (W.ndim - 1))
    return folded.astype(W.dtype), (beta - offset * scale).astype(W.dtype)
