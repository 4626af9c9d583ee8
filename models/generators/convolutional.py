"""Adversarial networks of convolutions, as in the course: DC-GAN and WGAN-GP."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytensor.tensor as pt

from dlmie.errors import DlmieError
from dlmie.layers import BatchNorm, Conv2D, Linear, Sequential, TransposedConv2D
from dlmie.layers.options import LayerOptions
from dlmie.layers.parameterless import flatten, halve, leaky_relu
from dlmie.models.generators.gan import GAN, Config, as_images
from dlmie.ops.conv.activation import relu


class DCGAN(GAN):
    """Convolutions on both sides (Radford et al. 2016, in the course's sizes).

    Generator: noise – 1024 – ReLU – batch norm – 128 images of a quarter of the size – ReLU – batch
    norm – transposed convolution to 64 images of half the size – ReLU – batch norm – transposed
    convolution – tanh. Critic: 32 filters of 5 × 5 – leaky ReLU – pool – 64 of 5 × 5 – leaky ReLU –
    pool – 1024 – leaky ReLU – 1.

    Parameters
    ----------
    shape, latent, seed, dtype
        See :class:`~dlmie.models.generators.gan.GAN`.

    Raises
    ------
    DlmieError
        Images whose sides are no multiples of 4, or too small for the critic.

    Examples
    --------
    >>> model = DCGAN((28, 28, 1))
    >>> sum(p.get_value().size for p in model.critic_parameters)
    1102721
    """

    kind = "dc-gan"
    loss = "vanilla"

    def __init__(
        self, shape: Sequence[int], *, latent: int = 96, seed: int = 0, dtype: str = "float32"
    ) -> None:
        super().__init__(shape, latent=latent, seed=seed, dtype=dtype)
        rows, columns, _ = self.shape
        if rows % 4 or columns % 4 or min(rows, columns) < 16:
            raise DlmieError(
                f"{self.kind} makes images whose sides are multiples of 4, from 16 on, not "
                f"{rows} × {columns}: prepare the data with --size"
            )
        options: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        self.generator = self._generator(options)
        self.critic = self._critic(options)

    def _generator(self, options: LayerOptions) -> Sequential:
        rows, columns, channels = self.shape
        quarter = (128, rows // 4, columns // 4)
        units, dtype = int(np.prod(quarter)), self.dtype
        # 4 × 4 filters at stride 2 with one row cut off from each side: exactly twice the size.
        double = partial(TransposedConv2D, stride=2, padding=1, **options)
        return Sequential(
            Linear("/generator/1", self.latent, 1024, **options),
            relu,
            BatchNorm("/generator/norm1", 1024, dtype=dtype),
            Linear("/generator/2", 1024, units, **options),
            relu,
            BatchNorm("/generator/norm2", units, dtype=dtype),
            as_images(*quarter),
            double("/generator/3", 128, 64, 4),
            relu,
            BatchNorm("/generator/norm3", 64, dtype=dtype),
            double("/generator/4", 64, channels, 4, W="glorot_uniform"),
            pt.tanh,
        )

    def _critic(self, options: LayerOptions) -> Sequential:
        rows, columns, channels = self.shape
        sides = [((size - 4) // 2 - 4) // 2 for size in (rows, columns)]
        units = 64 * sides[0] * sides[1]
        # Leaky ReLU keeps the order of values: after the pool, it is the same for less work.
        return Sequential(
            Conv2D("/critic/1", channels, 32, 5, padding="valid", **options),
            halve,
            leaky_relu,
            Conv2D("/critic/2", 32, 64, 5, padding="valid", **options),
            halve,
            leaky_relu,
            flatten,
            Linear("/critic/3", units, units, **options),
            leaky_relu,
            Linear("/critic/4", units, 1, **options),
        )


class WassersteinGAN(DCGAN):
    """The same generator; a critic whose gradient is kept near 1 (Gulrajani et al. 2017).

    Critic: 64 filters of 4 × 4, stride 2 – leaky ReLU – 128 of 4 × 4, stride 2 – leaky ReLU – 1024
    – leaky ReLU – 1, the convolutions padded by a pixel.

    The course's critic normalizes the batch after the second convolution; the gradient of each
    image then depends on all others, which the penalty must not (Gulrajani et al., section 4). And
    its convolutions are not padded: of 28 rows and columns it never reads the last two, where the
    generator then draws what it likes, a bright frame.

    Parameters
    ----------
    shape, latent, seed, dtype
        See :class:`~dlmie.models.generators.gan.GAN`.
    critic_norm : bool
        The course's critic: with batch norm, and without padding.

    Examples
    --------
    >>> model = WassersteinGAN((28, 28, 1), critic_norm=True)
    >>> sum(p.get_value().size for p in model.critic_parameters)
    3411649
    """

    kind = "wgan-gp"
    loss = "wasserstein"

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int = 96,
        critic_norm: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.critic_norm = critic_norm
        super().__init__(shape, latent=latent, seed=seed, dtype=dtype)

    @property
    def config(self) -> Config:
        return {**super().config, "critic_norm": self.critic_norm}

    def _critic(self, options: LayerOptions) -> Sequential:
        rows, columns, channels = self.shape
        if self.critic_norm:
            half = partial(Conv2D, stride=2, padding="valid", **options)
            sides = [((size - 2) // 2 - 2) // 2 for size in (rows, columns)]
            norm = [BatchNorm("/critic/norm", 128, dtype=self.dtype)]
        else:
            half, norm = partial(Conv2D, stride=2, padding=1, **options), []
            sides = [rows // 4, columns // 4]
        return Sequential(
            half("/critic/1", channels, 64, 4),
            leaky_relu,
            half("/critic/2", 64, 128, 4),
            leaky_relu,
            *norm,
            flatten,
            Linear("/critic/3", 128 * sides[0] * sides[1], 1024, **options),
            leaky_relu,
            Linear("/critic/4", 1024, 1, **options),
        )
