"""Random shifts, scales, rotations and noise; each is a map with its adjoint.

A transform is drawn anew at each step of :func:`~dlmie.visualize.ascent.ascend.ascend`: ``draw(rng,
shape)`` gives two functions, what happens to the images and to the gradient on its way back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Linear = Callable[[np.ndarray], np.ndarray]


class Transform(Protocol):
    """Random maps of images (batch, 3, H, W), linear but for what they add."""

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Linear, Linear]:
        """A random map of planes (…, H, W), and the transpose of its linear part."""
        ...


@dataclass(frozen=True)
class Jitter:
    """Roll rows and columns by up to ``pixels`` in either direction; what leaves comes back."""

    pixels: int

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Linear, Linear]:
        down, right = (int(n) for n in rng.integers(-self.pixels, self.pixels + 1, 2))
        return (
            lambda x: np.roll(x, (down, right), (-2, -1)),
            lambda g: np.roll(g, (-down, -right), (-2, -1)),
        )


@dataclass(frozen=True)
class Affine:
    """Scale by a factor of ``1 ± scale`` and rotate by ``± degrees`` about the middle.

    The image keeps its size; what comes from outside repeats the border.  Linear interpolation as
    a sparse matrix, whose transpose is the exact adjoint.
    """

    scale: float = 0.0
    degrees: float = 0.0

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Linear, Linear]:
        factor = 1 + rng.uniform(-self.scale, self.scale)
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        matrix = affine_matrix(shape, factor, angle)

        def apply(m: csr_matrix, x: np.ndarray) -> np.ndarray:
            planes = x.reshape(-1, x.shape[-2] * x.shape[-1])
            return np.ascontiguousarray((m @ planes.T).T.reshape(x.shape), dtype=x.dtype)

        transposed = matrix.T.tocsr()
        return lambda x: apply(matrix, x), lambda g: apply(transposed, g)


@dataclass(frozen=True)
class Noise:
    """Normal noise of standard deviation ``sigma``, in network units, on every value.

    What an image owes to single values is lost in it: gradients become smooth in space, as those of
    SmoothGrad, and pictures plain.
    """

    sigma: float

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Linear, Linear]:
        own = np.random.default_rng(int(rng.integers(2**63)))
        return (
            lambda x: (x + own.normal(0, self.sigma, x.shape)).astype(x.dtype),
            lambda g: g,  # what is added has no gradient
        )


def affine_matrix(shape: tuple[int, int], factor: float, angle: float) -> csr_matrix:
    """The sparse matrix (H·W, H·W) that enlarges by ``factor``, rotates by ``angle`` radians."""
    from scipy.sparse import csr_matrix

    rows, columns = shape
    middle = (rows - 1) / 2, (columns - 1) / 2
    i, j = np.meshgrid(np.arange(rows) - middle[0], np.arange(columns) - middle[1], indexing="ij")
    cosine, sine = np.cos(angle) / factor, np.sin(angle) / factor
    y = np.clip(cosine * i - sine * j + middle[0], 0, rows - 1).ravel()
    x = np.clip(sine * i + cosine * j + middle[1], 0, columns - 1).ravel()
    top = np.minimum(y.astype(int), max(rows - 2, 0))
    left = np.minimum(x.astype(int), max(columns - 2, 0))
    below, beside = np.minimum(top + 1, rows - 1), np.minimum(left + 1, columns - 1)
    v, h = y - top, x - left
    corners = ((top, left), (top, beside), (below, left), (below, beside))
    source = np.stack([row * columns + column for row, column in corners])
    weights = np.stack([(1 - v) * (1 - h), (1 - v) * h, v * (1 - h), v * h])
    target = np.broadcast_to(np.arange(rows * columns), source.shape)
    entries = weights.astype(np.float32).ravel(), (target.ravel(), source.ravel())
    return csr_matrix(entries, shape=(rows * columns, rows * columns))
