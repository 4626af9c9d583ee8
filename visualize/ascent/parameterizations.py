"""How an image is written as numbers to be optimized: as pixels, or as a spectrum of frequencies.

A parameterization is a function from parameters to images in network units and its pullback, which
carries the gradient of an image back to the parameters.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dlmie.data.images import Preprocessing, channel_order, valid_range


class Parameterization(Protocol):
    """Parameters ↔ images (batch, 3, H, W)."""

    #: Whether the parameters are the pixels, so that regularizers and clipping may act on them.
    pixels: bool

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The parameters of given images."""
        ...

    def decode(self, parameters: np.ndarray) -> np.ndarray:
        """Parameters → images."""
        ...

    def pullback(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Gradient with respect to the images → with respect to the parameters."""
        ...


class Pixels:
    """The image itself."""

    pixels = True

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images

    def decode(self, parameters: np.ndarray) -> np.ndarray:
        return parameters

    def pullback(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return gradient


#: Square root of the covariance of the colors of 200 photographs, its columns the principal
#: components, divided by the largest column's length: brightness, blue against red, green.
COLORS = np.array(
    [[-0.5534, -0.2178, 0.0624], [-0.5800, -0.0063, -0.1232], [-0.5985, 0.2075, 0.0617]]
)


class Fourier:
    """A spectrum with decorrelated colors (Olah et al. 2017): steps suit all frequencies alike.

    ``x = low + (high - low) · sigmoid(C · irfft2(s · z))``, where s is one over the frequency and C
    turns independent components into colors as correlated as in photographs.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of the network: what black and white are.
    size : (rows, columns)
    decay : float
        Power of the frequency in s.
    """

    pixels = False

    def __init__(
        self, preprocessing: Preprocessing, size: tuple[int, int], decay: float = 1.0
    ) -> None:
        self.size = rows, columns = size
        self.low, high = valid_range(preprocessing)
        self.span = high - self.low
        self.order = channel_order(preprocessing)
        frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
        # Without a floor the coarsest waves, large areas of black and white, outrun all others.
        lowest = 6 / max(rows, columns)
        self.scale = (0.25 / np.maximum(frequency, lowest) ** decay).astype(np.float32)
        # Columns of a real spectrum that stand for two complex conjugates.
        self.twice = np.full(columns // 2 + 1, 2, np.float32)
        self.twice[0] = 1
        if columns % 2 == 0:
            self.twice[-1] = 1
        self.colors = (COLORS / 0.5534).astype(np.float32)

    def random(self, batch: int, rng: np.random.Generator, sigma: float = 0.01) -> np.ndarray:
        """Small random parameters (batch, 3, rows, columns // 2 + 1, 2)."""
        shape = (batch, 3, *self.scale.shape, 2)
        return rng.normal(0, sigma, shape).astype(np.float32)

    def _planes(self, parameters: np.ndarray) -> np.ndarray:
        """z → logits of the colors, RGB (batch, 3, rows, columns)."""
        from scipy.fft import irfft2

        spectrum = (parameters[..., 0] + 1j * parameters[..., 1]) * self.scale
        planes = irfft2(spectrum, s=self.size, norm="ortho")
        return np.einsum("cd,ndij->ncij", self.colors, planes, optimize=True)

    def decode(self, parameters: np.ndarray) -> np.ndarray:
        squashed = 1 / (1 + np.exp(-self._planes(parameters)))
        return np.ascontiguousarray(self.low + self.span * squashed[:, self.order], np.float32)

    def pullback(self, parameters: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        from scipy.fft import rfft2

        squashed = 1 / (1 + np.exp(-self._planes(parameters)))
        g = np.empty_like(gradient)
        g[:, self.order] = gradient * self.span
        g = g * squashed * (1 - squashed)
        g = np.einsum("cd,ncij->ndij", self.colors, g, optimize=True)
        spectrum = rfft2(g, norm="ortho") * (self.scale * self.twice)
        return np.stack([spectrum.real, spectrum.imag], axis=-1).astype(parameters.dtype)

    def encode(self, images: np.ndarray) -> np.ndarray:
        from scipy.fft import rfft2

        fraction = np.empty_like(images)
        fraction[:, self.order] = np.clip((images - self.low) / self.span, 0.01, 0.99)
        planes = np.einsum(
            "cd,ndij->ncij",
            np.linalg.inv(self.colors),
            np.log(fraction / (1 - fraction)),
            optimize=True,
        )
        spectrum = rfft2(planes, norm="ortho") / self.scale
        return np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32)
