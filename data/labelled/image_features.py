"""Numbers that describe an image better than its pixels: gradients' directions and colors' hues.

Features in the sense of the course: a histogram of oriented gradients (HOG; Dalal and Triggs 2005)
and a histogram of hues, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dlmie.errors import DataError

CELL, ORIENTATIONS, HUES = 8, 9, 10

Extract = Callable[[np.ndarray], np.ndarray]


def hog_and_hue(images: np.ndarray) -> np.ndarray:
    """HOG as scikit-image computes it, and a histogram of hues.

    Cells of 8 × 8 pixels with 9 orientations of 0 … 180 degrees, normalized in blocks of 2 × 2
    cells; then the share of pixels in each of 10 equal ranges of hue, each pixel weighted by its
    saturation.

    Parameters
    ----------
    images : (n, rows, columns, channels) uint8

    Returns
    -------
    (n, features) float32
        ``36 (R - 1) (C - 1) + 10`` features, R × C being the number of cells: 334 of 32 × 32
        pixels.

    Raises
    ------
    DataError
        Images of less than 16 × 16 pixels.
    """
    from skimage.feature import hog

    _check(images, 2 * CELL)
    options = {
        "orientations": ORIENTATIONS,
        "pixels_per_cell": (CELL, CELL),
        "cells_per_block": (2, 2),
        "channel_axis": -1,
    }
    gradients = np.array([hog(image, **options) for image in images])
    return np.hstack([gradients, _hues(images)]).astype(np.float32)


def _hues(images: np.ndarray) -> np.ndarray:
    """Shares of hues weighted by saturation: (n, 10); evenly divided where all is gray."""
    from skimage.color import rgb2hsv

    if images.shape[3] == 1:
        return np.full((len(images), HUES), 1 / HUES)
    colors = rgb2hsv(images).reshape(len(images), -1, 3)
    places = np.minimum((colors[..., 0] * HUES).astype(np.int64), HUES - 1)
    rows = np.arange(len(images))[:, None] * HUES
    size = len(images) * HUES
    counts = np.bincount((rows + places).ravel(), colors[..., 1].ravel(), size).reshape(-1, HUES)
    shares = counts.astype(np.float64) + 1e-6
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def hog_and_hue_of_the_course(images: np.ndarray) -> np.ndarray:
    """HOG and hues exactly as cs231n's first assignment has them, with its mistakes.

    Blue is weighted .144 instead of .114 in the gray image; directions are ``atan2 + 90`` of which
    only those in (0, 180) degrees count, half of the circle; a cell's numbers are means of
    magnitudes, not normalized, and lie in the order column, row, orientation. The hue is that of
    the last of equally large channels.

    Parameters
    ----------
    images : (n, rows, columns, 3) uint8
        Rows and columns in multiples of 8.

    Returns
    -------
    (n, features) float64
        154 of 32 × 32 pixels.

    Raises
    ------
    DataError
        Images without colors, or of other sizes.
    """
    _check(images, CELL)
    count, rows, columns, channels = images.shape
    if channels != 3 or rows % CELL or columns % CELL:
        raise DataError(
            f"the course's features need colors and multiples of {CELL} pixels, not "
            f"{rows} × {columns} of {channels} channels"
        )
    gray = images.astype(np.float64) @ np.array([0.299, 0.587, 0.144])
    across, down = np.zeros_like(gray), np.zeros_like(gray)
    across[:, :, :-1], down[:, :-1] = np.diff(gray, axis=2), np.diff(gray, axis=1)
    size = np.hypot(across, down)
    direction = np.degrees(np.arctan2(down, across + 1e-15)) + 90
    width = 180 / ORIENTATIONS
    cells = np.empty((count, columns // CELL, rows // CELL, ORIENTATIONS))
    for number in range(ORIENTATIONS):
        low = width * number
        mine = (direction >= low) & (direction < low + width) & (direction > 0)
        parts = np.where(mine, size, 0).reshape(count, rows // CELL, CELL, columns // CELL, CELL)
        cells[..., number] = parts.mean(axis=(2, 4)).transpose(0, 2, 1)
    return np.hstack([cells.reshape(count, -1), _hues_of_the_course(images)])


def _hues_of_the_course(images: np.ndarray) -> np.ndarray:
    """Shares of pixels by hue: (n, 10)."""
    pixels = images / 255.0
    red, green, blue = np.moveaxis(pixels, -1, 0)
    most = pixels.max(axis=3)
    span = most - pixels.min(axis=3)
    divisor = np.where(span > 0, span, 1)
    hue = np.zeros(most.shape)
    for channel, offset, difference in (
        (red, 0, green - blue),
        (green, 2, blue - red),
        (blue, 4, red - green),
    ):
        hue = np.where((span > 0) & (channel == most), offset + difference / divisor, hue)
    hue = (hue / 6) % 1 * 255
    edges = np.linspace(0, 255, HUES + 1)
    counts = np.array([np.histogram(one, bins=edges)[0] for one in hue])
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _check(images: np.ndarray, least: int) -> None:
    rows, columns = images.shape[1:3]
    if min(rows, columns) < least:
        raise DataError(
            f"these features need images of at least {least} × {least} pixels, not "
            f"{rows} × {columns}"
        )


#: Features by the name that ``--normalization`` has for them.
FEATURES: Mapping[str, Extract] = {
    "hog": hog_and_hue,
    "hog-course": hog_and_hue_of_the_course,
}
