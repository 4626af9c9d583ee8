"""Adversarial networks of dense layers, as in the course."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt

from dlmie.layers import Linear, Sequential
from dlmie.layers.options import LayerOptions
from dlmie.layers.parameterless import flatten, leaky_relu
from dlmie.models.generators.gan import GAN, as_images
from dlmie.ops.conv.activation import relu


class VanillaGAN(GAN):
    """Two hidden layers on each side; the critic gives the log-odds that an image is real.

    Generator: noise – 1024 – ReLU – 1024 – ReLU – pixels – tanh. Critic: pixels – 256 – leaky ReLU
    – 256 – leaky ReLU – 1.

    Parameters
    ----------
    shape, latent, seed, dtype
        See :class:`~dlmie.models.generators.gan.GAN`.

    Examples
    --------
    >>> model = VanillaGAN((28, 28, 1))
    >>> sum(p.get_value().size for p in model.critic_parameters)
    267009
    """

    kind = "gan"
    loss = "vanilla"

    def __init__(
        self, shape: Sequence[int], *, latent: int = 96, seed: int = 0, dtype: str = "float32"
    ) -> None:
        super().__init__(shape, latent=latent, seed=seed, dtype=dtype)
        rows, columns, channels = self.shape
        pixels = math.prod(self.shape)
        options: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        self.generator = Sequential(
            Linear("/generator/1", latent, 1024, **options),
            relu,
            Linear("/generator/2", 1024, 1024, **options),
            relu,
            Linear("/generator/3", 1024, pixels, **options),
            pt.tanh,
            as_images(channels, rows, columns),
        )
        self.critic = Sequential(
            flatten,
            Linear("/critic/1", pixels, 256, **options),
            leaky_relu,
            Linear("/critic/2", 256, 256, **options),
            leaky_relu,
            Linear("/critic/3", 256, 1, **options),
        )


class LeastSquaresGAN(VanillaGAN):
    """The same networks, whose critic moves its scores to 1 and 0 (Mao et al. 2017)."""

    kind = "ls-gan"
    loss = "least-squares"
