"""Between pixels of 0..255 and the units that a network reads, whatever the size of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dlmie.data.images.preprocessing import Preprocessing


def normalize(
    pixels: np.ndarray, preprocessing: Preprocessing, dtype: str = "float32"
) -> np.ndarray:
    """Pixels in network units, ``(pixels - mean) / scale``, at the size that they have.

    Parameters
    ----------
    pixels
        (…, H, W, 3) ``uint8``, RGB.
    preprocessing
        What the network expects; its ``size`` does not matter.
    dtype
        Of the result.

    Returns
    -------
    np.ndarray
        (…, 3, H, W), with the channels in the network's order.

    Examples
    --------
    >>> from dlmie.data.images import Preprocessing
    >>> normalize(np.full((1, 2, 3), 255, np.uint8), Preprocessing(8, (127,) * 3, (128,) * 3)).max()
    np.float32(1.0)
    """
    kind = np.dtype(dtype).type
    result = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), dtype)
    for channel, source in enumerate(channel_order(preprocessing)):
        plane = result[..., channel, :, :]
        np.subtract(pixels[..., source], kind(preprocessing.mean[channel]), out=plane)
        plane /= kind(preprocessing.scale[channel])
    return result


def channel_order(preprocessing: Preprocessing) -> list[int]:
    """For each channel of the network, the channel of the RGB picture."""
    return [0, 1, 2] if preprocessing.channels == "RGB" else [2, 1, 0]


def valid_range(
    preprocessing: Preprocessing, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """What black and white are for the network: two arrays (3, 1, 1), its lowest and highest."""
    mean = np.asarray(preprocessing.mean).reshape(3, 1, 1)
    scale = np.asarray(preprocessing.scale).reshape(3, 1, 1)
    return ((0 - mean) / scale).astype(dtype), ((255 - mean) / scale).astype(dtype)


def pixel_size(preprocessing: Preprocessing, dtype: str = "float32") -> np.ndarray:
    """How much one gray level of 0..255 is for the network: (3, 1, 1)."""
    return (1 / np.asarray(preprocessing.scale)).reshape(3, 1, 1).astype(dtype)


def gray_level(preprocessing: Preprocessing, dtype: str = "float32") -> float:
    """The same on average over the colors."""
    return float(pixel_size(preprocessing, dtype).mean())
