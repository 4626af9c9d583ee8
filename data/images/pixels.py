"""What pixels are: uint8, RGB; and the error for an image that cannot be used."""

from __future__ import annotations

import numpy as np

from dlmie.errors import DataError


class ImageError(DataError):
    """An image cannot be used: missing, empty, truncated, unreadable, too large or out of range."""


class ImageWarning(UserWarning):
    """An image was read, but perhaps not as it was meant: a line that names it and says why."""


def check_pixels(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"needs uint8 pixels in 0..255, not {kind}: use load_image first")
    if image.ndim < 3 or image.shape[-1] != 3 or 0 in image.shape[-3:]:
        raise ImageError(f"needs pixels of shape (…, H, W, 3), not {image.shape}")
