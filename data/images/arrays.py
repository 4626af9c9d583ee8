"""Arrays of pixels of any type and shape as RGB bytes; in integers, and no more than one copy."""

from __future__ import annotations

import functools

import numpy as np

from dlmie.data.images.pixels import ImageError


def rgb_from_array(values: np.ndarray) -> np.ndarray:
    """Turn an array of pixels of any supported type and shape into (H, W, 3) uint8."""
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise ImageError(
            f"an image array has shape (H, W) or (H, W, 1, 2, 3 or 4 channels), not {values.shape}"
        )
    values = bytes_from_numbers(values)
    colors = values[:, :, :3] if values.shape[2] > 2 else np.repeat(values[:, :, :1], 3, axis=2)
    if values.shape[2] in (2, 4):
        return over_white(colors, values[:, :, -1])
    return np.ascontiguousarray(colors)


def bytes_from_numbers(values: np.ndarray) -> np.ndarray:
    """Numbers of any supported type as a new array of bytes, 255 for white."""
    if values.dtype == np.uint8:
        return values.copy()
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return _high_bytes()[values]
    if np.issubdtype(values.dtype, np.integer):
        if values.min() < 0 or values.max() > 255:
            raise ImageError(f"pixels {values.min()}..{values.max()} are outside 0..255")
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= 1.0):  # also catches not-a-number
            raise ImageError(
                f"float pixels must lie in 0..1, these are {low:g}..{high:g}; "
                "for 0..255 convert to uint8 first"
            )
        return np.rint(values.astype(np.float64) * 255.0).astype(np.uint8)
    raise ImageError(f"an image array is uint8 or float in 0..1, not {values.dtype}")


def over_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay colors (H, W, 3) uint8 of opacity (H, W) uint8 over a white page: (H, W, 3) uint8."""
    if alpha.min() == 255:
        return colors
    opacity = alpha[:, :, None].astype(np.uint16)
    mixed = colors * opacity  # at most 255², which 16 bits hold
    mixed += np.uint16(255) * (np.uint16(255) - opacity)
    mixed += np.uint16(127)  # rounds to the nearest: 255 is odd, so nothing lies halfway
    mixed //= np.uint16(255)
    return mixed.astype(np.uint8)


@functools.cache
def _high_bytes() -> np.ndarray:
    """For each 16-bit number the nearest byte: 65535 is 255."""
    return np.rint(np.arange(65536) / 257.0).astype(np.uint8)
