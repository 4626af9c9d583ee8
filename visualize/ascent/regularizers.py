"""Regularizers: steps on the image after each step of ascent (see ``presets`` for the papers').

A regularizer is called as ``image = regularizer(image, gradient, step)`` with arrays (batch, 3, H,
W) in network units, whose zero is the mean color.  Terms of the objective serve the same end:
``total_variation`` and ``alpha_norm`` (Mahendran and Vedaldi 2015), ``alpha_norm(2)`` (L2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Regularizer(Protocol):
    """A step on images after each step of ascent."""

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Decay:
    """L2 decay, ``x ← (1 - θ) x``."""

    theta: float

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        return image * image.dtype.type(1 - self.theta)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of standard deviation ``sigma`` pixels, every ``every`` steps."""

    sigma: float
    every: int = 1

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        if self.sigma <= 0 or (step + 1) % self.every:
            return image
        from scipy.ndimage import gaussian_filter1d

        # "wrap" fits images that are rolled; borders bleed less into the picture than with zeros.
        rows = gaussian_filter1d(image, self.sigma, axis=-2, mode="nearest")
        return gaussian_filter1d(rows, self.sigma, axis=-1, mode="nearest")


@dataclass(frozen=True)
class ClipNorm:
    """Pixels whose norm over the channels is in the lowest ``percent`` become the mean color."""

    percent: float

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        return _zero_lowest(image, np.sqrt(np.square(image).sum(axis=1)), self.percent)


@dataclass(frozen=True)
class ClipContribution:
    """Pixels with the lowest ``percent`` of ``|Σ_c x_c g_c|`` become the mean color."""

    percent: float

    def __call__(self, image: np.ndarray, gradient: np.ndarray, step: int) -> np.ndarray:
        return _zero_lowest(image, np.abs((image * gradient).sum(axis=1)), self.percent)


def _zero_lowest(image: np.ndarray, score: np.ndarray, percent: float) -> np.ndarray:
    limits = np.percentile(score, percent, axis=(1, 2), keepdims=True)  # of each image
    return np.where((score < limits)[:, None], image.dtype.type(0), image)
