"""Images resized as scikit-image does it, 20 times as fast for large photographs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from dlmie.data.images.pixels import ImageError, check_pixels

# A strip of this many values is resized at a time: it stays in the processor's cache, and the
# memory for huge images is bounded.
_STRIP = 500_000

_READ = 2_000_000  # pixels read, and held as doubles, at a time


def resize_image(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize to exactly ``size``; the aspect ratio is not kept.

    Linear interpolation (order 1) after Gaussian anti-aliasing where the image shrinks, as by
    :func:`skimage.transform.resize`, rounded to the nearest byte.  Both are separable, so height
    and width are resized one after the other.

    Parameters
    ----------
    image
        (H, W, 3) ``uint8``.
    size
        Pixels: one number for a square, or (height, width).

    Returns
    -------
    np.ndarray
        (height, width, 3) ``uint8``; the input itself when it already has this size.

    Examples
    --------
    >>> resize_image(np.zeros((30, 40, 3), np.uint8), 8).shape
    (8, 8, 3)
    """
    check_pixels(image)
    if image.ndim != 3:
        raise ImageError(f"resize_image takes one image (H, W, 3), not shape {image.shape}")
    shape = as_shape(size)
    if image.shape[:2] == shape:
        return image
    return resize_strips(lambda start, stop: image[:, start:stop], image.shape[:2], shape)


def as_shape(size: int | tuple[int, int]) -> tuple[int, int]:
    """``224`` → ``(224, 224)``; height and width stay as they are."""
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if height < 1 or width < 1:
        raise ImageError(f"an image cannot be resized to {height}×{width} pixels")
    return int(height), int(width)


def resize_strips(
    read: Callable[[int, int], np.ndarray], before: tuple[int, int], after: tuple[int, int]
) -> np.ndarray:
    """:func:`resize_image` of an image that is read column by column, and never held as a whole.

    Parameters
    ----------
    read
        From a first column to one after the last: (height, columns, 3) ``uint8``.
    before, after
        Height and width of the image, and those wanted.

    Returns
    -------
    np.ndarray
        (height, width, 3) ``uint8``.
    """
    (height, width), (rows, columns) = before, after
    upright = np.empty((rows, width, 3))
    vertical = _resize_weights(height, rows)
    step = max(1, _READ // height)
    for start in range(0, width, step):
        stop = min(start + step, width)
        strip = read(start, stop).reshape(height, (stop - start) * 3)
        upright[:, start:stop] = _weighted(vertical, strip).reshape(rows, stop - start, 3)
    result = np.empty((rows, columns, 3), np.uint8)
    horizontal = _resize_weights(width, columns)
    step = max(1, _READ // width)
    for start in range(0, rows, step):
        some = upright[start : start + step]
        lying = some.transpose(1, 0, 2).reshape(width, len(some) * 3)
        resized = _weighted(horizontal, lying).reshape(columns, len(some), 3)
        result[start : start + step] = np.clip(np.rint(resized), 0, 255).transpose(1, 0, 2)
    return result


def _weighted(weights: Any, values: np.ndarray) -> np.ndarray:
    """Resize along the first axis only: (before, n) → (after, n) float64."""
    after, before = weights.shape
    if before == after:
        return values.astype(np.float64)
    strip = max(1, _STRIP // before)
    result = np.empty((after, values.shape[1]))
    for start in range(0, values.shape[1], strip):
        part = values[:, start : start + strip].astype(np.float64, order="C")
        result[:, start : start + strip] = weights @ part
    return result


@lru_cache(maxsize=8)  # most images of a folder have one size, and some 0.2 MB of weights
def _resize_weights(before: int, after: int) -> Any:
    """Give what scikit-image's resize does along one axis, as a sparse matrix (after, before).

    A Gaussian, then interpolation between the two nearest pixels, both mirrored at the ends.
    Applied as a matrix it filters only where an output is wanted: 20 times as fast for large
    photographs.
    """
    from scipy.sparse import csr_array

    deviation = max(0.0, (before / after - 1) / 2)  # of scikit-image's anti-aliasing
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    gauss = np.exp(-0.5 / deviation**2 * offsets**2) if reach else np.ones(1)
    gauss /= gauss.sum()
    place = (np.arange(after) + 0.5) * before / after - 0.5
    left = np.floor(place).astype(np.int64)[:, None]
    share = place[:, None] - left
    values = np.zeros((after, 2 * reach + 2))
    values[:, :-1] += (1 - share) * gauss
    values[:, 1:] += share * gauss
    period = max(1, 2 * (before - 1))
    columns = (left + np.arange(-reach, reach + 2)) % period
    columns = np.minimum(columns, period - columns)
    rows = np.broadcast_to(np.arange(after)[:, None], columns.shape)
    # Weights that fall on the same pixel are added up.
    return csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=(after, before))
