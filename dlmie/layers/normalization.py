"""Normalization of activations: by batch, by layer and by groups of channels."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import parameter
from dlmie.layers.noise import Noise
from dlmie.ops.normalization.batch_norm import batch_normalize


class BatchNorm:
    """Normalize each channel (axis 1) to zero mean and unit variance, then scale and shift.

    Ioffe and Szegedy (2015), algorithm 1; over a batch of images all places of a channel count.
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
        # An array of its own for each: compiled functions update parameters in place.
        self.gamma = parameter(f"{name}/gamma", np.ones(channels, dtype))
        self.beta = parameter(f"{name}/beta", np.zeros(channels, dtype))
        self.mean = parameter(f"{name}/mean", np.zeros(channels, dtype), trainable=False)
        self.variance = parameter(f"{name}/variance", np.ones(channels, dtype), trainable=False)
        self.epsilon = np.asarray(epsilon, dtype)
        self.momentum = np.asarray(momentum, dtype)

    def __call__(self, x: Variable) -> Variable:
        """Inference: x (batch, channels, ...) with the running statistics, one scale and shift."""
        scale = self.gamma / pt.sqrt(self.variance + self.epsilon)
        shift = self.beta - self.mean * scale
        axes = ["x", 0, *["x"] * (x.type.ndim - 2)]
        return x * scale.dimshuffle(axes) + shift.dimshuffle(axes)

    def train(
        self, x: Variable, noise: Noise | None = None
    ) -> tuple[Variable, list[tuple[Variable, Variable]]]:
        """Training: normalize by the batch's own statistics.

        Returns the normalized x and the updates of the running statistics.
        """
        y, mean, variance = batch_normalize(x, self.gamma, self.beta, float(self.epsilon))
        kept, new = self.momentum, np.asarray(1, self.momentum.dtype) - self.momentum
        return y, [
            (self.mean, kept * self.mean + new * mean),
            (self.variance, kept * self.variance + new * variance),
        ]


class GroupNorm:
    """Normalize groups of channels of each example by themselves, then scale and shift.

    Wu and He (2018), equation 7: mean and biased variance over the channels of a group and all
    places; training and inference are one expression, whatever the batch.

    Parameters
    ----------
    name : str
        Prefix of the parameters ``gamma`` and ``beta``, both (channels,).
    channels, groups : int
        The channels come in so many groups of equal size.

    Raises
    ------
    DlmieError
        The channels cannot be divided so.
    """

    def __init__(
        self,
        name: str,
        channels: int,
        groups: int,
        *,
        epsilon: float = 1e-5,
        dtype: str = "float32",
    ) -> None:
        if groups < 1 or channels % groups:
            raise DlmieError(f"{channels} channels cannot be divided into {groups} equal groups")
        self.gamma = parameter(f"{name}/gamma", np.ones(channels, dtype))
        self.beta = parameter(f"{name}/beta", np.zeros(channels, dtype))
        self.groups, self.epsilon = groups, np.asarray(epsilon, dtype)

    def __call__(self, x: Variable) -> Variable:
        """x (batch, channels, ...) → the same shape."""
        axes = ["x", 0, *["x"] * (x.type.ndim - 2)]
        grouped = x.reshape((x.shape[0], self.groups, -1))
        centered = grouped - grouped.mean(axis=2, keepdims=True)
        variance = (centered**2).mean(axis=2, keepdims=True)
        normal = centered / pt.sqrt(variance + self.epsilon)
        normal = pt.specify_shape(normal.reshape(x.shape), x.type.shape)
        return normal * self.gamma.dimshuffle(axes) + self.beta.dimshuffle(axes)


class LayerNorm(GroupNorm):
    """Normalize all features of each example together, then scale and shift each (channel).

    Ba, Kiros and Hinton (2016), equation 3: one group of all channels.

    Parameters
    ----------
    name : str
        Prefix of the parameters ``gamma`` and ``beta``, both (channels,).
    """

    def __init__(
        self, name: str, channels: int, *, epsilon: float = 1e-5, dtype: str = "float32"
    ) -> None:
        super().__init__(name, channels, 1, epsilon=epsilon, dtype=dtype)


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
