"""Pictures made of numbers and of other pictures: colors, overlays, rows and grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.data.images import resize_image, resize_planes


def colorize(
    numbers: np.ndarray, colors: str = "inferno", low: float = 0.0, high: float = 1.0
) -> np.ndarray:
    """Numbers (H, W) → colors (H, W, 3) uint8 on the scale from ``low`` to ``high``."""
    from matplotlib import colormaps

    fraction = (np.asarray(numbers, np.float64) - low) / ((high - low) or 1.0)
    return (colormaps[colors](np.clip(fraction, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def overlay(photo: np.ndarray, numbers: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """A map in 0..1 over a photograph (H, W, 3): the photograph in gray where the map is low."""
    from scipy.ndimage import gaussian_filter

    # Single bright pixels would be lost over a photograph: spread them to spots that are seen.
    strengths = resize_planes(np.asarray(numbers, np.float64), photo.shape[:2])
    strengths = gaussian_filter(strengths, max(photo.shape[:2]) / 80)
    strengths = np.clip(strengths / (strengths.max() or 1.0), 0, 1)
    gray = photo.mean(axis=2, keepdims=True) * 0.35 + photo * 0.35 + 0.15 * 255
    weight = strength * strengths[..., None] ** 0.7
    mixed = (1 - weight) * gray + weight * colorize(strengths, "inferno")
    return np.clip(mixed.round(), 0, 255).astype(np.uint8)


def beside(images: Sequence[np.ndarray], gap: int = 4) -> np.ndarray:
    """Images (H, W, 3) in a row, at the height of the first."""
    height = images[0].shape[0]
    parts: list[np.ndarray] = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        parts += [resize_image(image, (height, width)), np.full((height, gap, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


def tile(images: Sequence[np.ndarray], columns: int, gap: int = 2) -> np.ndarray:
    """Images (H, W, 3) of one size as a grid with white lines, row by row."""
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    height, width = images[0].shape[:2]
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def stretch(difference: np.ndarray) -> np.ndarray:
    """A difference of pixels in any range → gray where zero, black and white at the extremes."""
    largest = float(np.abs(difference).max()) or 1.0
    return np.clip(127.5 + 127.5 * difference / largest, 0, 255).round().astype(np.uint8)
