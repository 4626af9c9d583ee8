"""What all generative adversarial networks share (Goodfellow et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter, find_parameters, parameter_table
from dlmie.layers import Noise, Sequential
from dlmie.layers.sequential import Updates

Config = dict[str, int | float | str | bool]


class GAN:
    """Base of the networks that play against each other: a generator and a critic.

    A subclass names itself (``kind``) and the game (``loss``), and sets ``generator``, layers from
    (batch, latent) to (batch, channels, rows, columns) in [-1, 1], and ``critic``, layers from such
    images to (batch, 1).

    Parameters
    ----------
    shape : (rows, columns, channels)
        Of the images, as a data set has them: ``data.shape``.
    latent : int
        Size of the noise that a generated image comes from, uniform in [-1, 1).
    seed : int
        Of the first values of the parameters.
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    images : (batch, channels, rows, columns)
        The symbolic input of the critic, in [-1, 1].
    noise : (batch, latent)
        The symbolic input of the generator.
    """

    #: The name of the task that trains it.
    task: ClassVar[str] = "generation"
    kind: ClassVar[str]
    #: The game: "vanilla", "least-squares" or "wasserstein".
    loss: ClassVar[str]

    generator: Sequential
    critic: Sequential

    def __init__(
        self, shape: Sequence[int], *, latent: int = 96, seed: int = 0, dtype: str = "float32"
    ) -> None:
        rows, columns, channels = map(int, shape)
        if min(rows, columns, channels, latent) < 1:
            raise DlmieError(
                f"a generator needs images with pixels and noise to begin with, not {tuple(shape)} "
                f"and {latent}"
            )
        self.shape, self.latent = (rows, columns, channels), latent
        self.seed, self.dtype = seed, dtype
        self.images = pt.tensor("images", dtype=dtype, shape=(None, channels, rows, columns))
        self.noise = pt.tensor("noise", dtype=dtype, shape=(None, latent))

    @property
    def config(self) -> Config:
        """The keyword arguments that make an equal model for images of the same shape."""
        return {"latent": self.latent, "seed": self.seed, "dtype": self.dtype}

    def generate(self, noise: Noise, count: Variable) -> tuple[Variable, Updates]:
        """So many new images in training, and the updates of the generator's statistics."""
        plain = pt.alloc(np.zeros((), self.dtype), count, self.latent)
        drawn = noise.uniform_like(plain) * np.asarray(2, self.dtype) - np.asarray(1, self.dtype)
        return self.generator.train(pt.specify_shape(drawn, (None, self.latent)), noise)

    def critic_scores(self, images: Variable, noise: Noise) -> Variable:
        """The critic's scores of images in training: (batch,), high for those taken for real."""
        scores, _ = self.critic.train(images, noise)
        return scores[:, 0]

    @cached_property
    def generator_parameters(self) -> list[Parameter]:
        """The generator's parameters by name, statistics included."""
        return find_parameters(self.generator(self.noise))

    @cached_property
    def critic_parameters(self) -> list[Parameter]:
        """The critic's parameters by name, statistics included."""
        return find_parameters(self.critic(self.images))

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters by name."""
        return [*self.critic_parameters, *self.generator_parameters]

    @cached_property
    def _compiled(self) -> Callable[[np.ndarray], np.ndarray]:
        compiled: Callable[[np.ndarray], np.ndarray] = function(
            [self.noise], self.generator(self.noise), name=f"{self.kind} generator"
        )
        return compiled

    def sample(self, count: int, *, seed: int = 0) -> np.ndarray:
        """New images (count, rows, columns, channels) uint8; equal ones for equal seeds."""
        noise = np.random.default_rng(seed).uniform(-1, 1, (count, self.latent))
        return self.render(noise)

    def render(self, noise: np.ndarray, *, batch: int = 500) -> np.ndarray:
        """The images (n, rows, columns, channels) uint8 of noise (n, latent)."""
        parts = [
            to_pixels(self._compiled(noise[start : start + batch].astype(self.dtype)))
            for start in range(0, len(noise), batch)
        ]
        return np.concatenate(parts)

    def summary(self) -> str:
        """A table of the parameters."""
        return parameter_table(self.kind, self.parameters)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Images (n, channels, rows, columns) in [-1, 1] as (n, rows, columns, channels) uint8."""
    pixels = np.rint((images.astype(np.float64) + 1) * 127.5).clip(0, 255)
    return pixels.astype(np.uint8).transpose(0, 2, 3, 1)


def as_images(channels: int, rows: int, columns: int) -> Callable[[Variable], Variable]:
    """The layer from (batch, features) to (batch, channels, rows, columns)."""

    def layer(x: Variable) -> Variable:
        images = x.reshape((x.shape[0], channels, rows, columns))
        return pt.specify_shape(images, (x.type.shape[0], channels, rows, columns))

    return layer
