"""Pixels to the input of an encoder, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlmie.data.images.pixels import ImageError, check_pixels
from dlmie.data.images.resizing import resize_image
from dlmie.data.images.units import channel_order, normalize
from dlmie.errors import DataError


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder expects of its input: ``(pixels - mean) / scale`` at ``size × size``.

    A captioner that learned from images of another size than the encoder's saw them resized twice,
    and must always see photographs so: ``via`` lists these sizes.

    Attributes
    ----------
    size
        Height and width in pixels.
    mean, scale
        One number per channel, in 0..255 pixel units, in the order of ``channels``.
    channels
        ``"RGB"`` or ``"BGR"``: the order in which the network takes them.
    via
        Sizes to which a photograph is resized, one after the other, before it is to ``size``.

    Examples
    --------
    >>> Preprocessing(224, (127.0,) * 3, (128.0,) * 3).to_json()["channels"]
    'RGB'
    """

    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: str = "RGB"
    via: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", int(self.size))
        object.__setattr__(self, "via", tuple(int(size) for size in self.via))
        for name in ("mean", "scale"):  # lists come from JSON files
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not np.all(np.isfinite(values)):
                raise DataError(f"preprocessing: {name} must be three finite numbers, not {values}")
            object.__setattr__(self, name, values)
        if min(self.sizes) < 1:
            raise DataError(f"preprocessing: size must be at least 1 pixel, not {min(self.sizes)}")
        if min(self.scale) <= 0:
            raise DataError(f"preprocessing: scale must be positive, not {self.scale}")
        if self.channels not in ("RGB", "BGR"):
            raise DataError(f"preprocessing: channels must be RGB or BGR, not {self.channels!r}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes that a photograph goes through, the encoder's last."""
        return (*self.via, self.size)

    def learned_from(self, size: int) -> Preprocessing:
        """What to do with photographs once training saw images that had been resized to ``size``.

        Examples
        --------
        >>> Preprocessing(224).learned_from(256).sizes, Preprocessing(224).learned_from(224).sizes
        ((256, 224), (224,))
        """
        return self if self.sizes[0] == size else replace(self, via=(size, *self.via))

    def prepared(self, size: int) -> Preprocessing:
        """What is left to do with images that have been resized to ``size`` already."""
        return replace(self, via=self.via[1:]) if self.via[:1] == (size,) else self

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``json.dump`` takes."""
        via = {"via": list(self.via)} if self.via else {}  # as before, where there is none
        return {
            "size": self.size,
            "mean": list(self.mean),
            "scale": list(self.scale),
            "channels": self.channels,
            **via,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Preprocessing:
        """Make it again from :meth:`to_json`'s answer."""
        via = value.get("via", ())
        return cls(value["size"], value["mean"], value["scale"], value["channels"], via)


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Turn pixels into the input of an encoder: resize, subtract the mean, divide by the scale.

    This is the only place that brings images to an encoder's size, in training and captioning.

    Parameters
    ----------
    image
        (…, H, W, 3) ``uint8``, RGB: one image or any batch of them.  Floats are refused, because
        an image that was scaled twice looks right and captions wrong.
    preprocessing
        What the encoder expects.

    Returns
    -------
    np.ndarray
        (…, 3, size, size) ``float32``.

    Examples
    --------
    >>> white = np.full((2, 8, 8, 3), 255, np.uint8)
    >>> x = preprocess(white, Preprocessing(4, (127,) * 3, (128,) * 3))
    >>> x.shape, float(x.max())
    ((2, 3, 4, 4), 1.0)
    """
    check_pixels(image)
    size = preprocessing.size
    lead = image.shape[:-3]
    if preprocessing.via or image.shape[-3:-1] != (size, size):
        flat = image.reshape(-1, *image.shape[-3:])
        resized = np.empty((len(flat), size, size, 3), np.uint8)
        for index, one in enumerate(flat):
            resized[index] = resize_through(one, preprocessing.sizes)
        image = resized.reshape(*lead, size, size, 3)
    return normalize(image, preprocessing)


def resize_through(image: np.ndarray, sizes: Iterable[int]) -> np.ndarray:
    """Resize (H, W, 3) ``uint8`` to one size after the other, each a square."""
    for size in sizes:
        image = resize_image(image, size)
    return image


def deprocess(x: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Undo :func:`preprocess`: network input → pixels, clipped to 0..255 and never wrapped around.

    Parameters
    ----------
    x
        (…, 3, H, W), any float type and any H and W.  Not-a-number becomes black.
    preprocessing
        The one the input was made for.

    Returns
    -------
    np.ndarray
        (…, H, W, 3) ``uint8``, RGB.

    Examples
    --------
    >>> deprocess(np.full((3, 2, 2), 9.0), Preprocessing(2, (127,) * 3, (128,) * 3)).max()
    np.uint8(255)
    """
    if x.ndim < 3 or x.shape[-3] != 3:
        raise ImageError(f"deprocess takes (…, 3, H, W), not shape {x.shape}")
    result = np.empty((*x.shape[:-3], *x.shape[-2:], 3), np.uint8)
    for channel, source in enumerate(channel_order(preprocessing)):
        plane = x[..., channel, :, :].astype(np.float64)
        plane = plane * preprocessing.scale[channel] + preprocessing.mean[channel]
        plane = np.nan_to_num(plane, nan=0.0, posinf=255.0, neginf=0.0)
        result[..., source] = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return result
