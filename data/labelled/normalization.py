"""From pixels to the input of a classifier: a mean is subtracted, and a scale divided by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.data.labelled.dataset import LabelledImages
from dlmie.errors import DataError
from dlmie.text import suggest

KINDS = ("mean-image", "per-channel", "none")


@dataclass(frozen=True, eq=False)
class Normalization:
    """``(pixels - mean) / scale`` for pixels of 0..255; a model keeps the one it learned with.

    Attributes
    ----------
    kind : str
        ``"mean-image"``: each pixel's mean over the training images, scale 1 (cs231n);
        ``"per-channel"``: mean and standard deviation of each channel; ``"none"``.
    shape : (rows, columns, channels)
        Of the images.
    mean : (rows, columns, channels) or (channels,) float64
    scale : (channels,) float64

    Examples
    --------
    >>> plain = Normalization("none", (1, 2, 1), np.zeros(1), np.ones(1))
    >>> plain(np.array([[[[3], [7]]]], np.uint8)).tolist()
    [[[[3.0, 7.0]]]]
    """

    kind: str
    shape: tuple[int, int, int]
    mean: np.ndarray
    scale: np.ndarray

    def __post_init__(self) -> None:
        channels = self.shape[2]
        if self.kind not in KINDS:
            raise DataError(f"unknown normalization {self.kind!r}{suggest(self.kind, KINDS)}")
        if self.mean.shape not in (self.shape, (channels,)) or self.scale.shape != (channels,):
            raise DataError(f"normalization: mean and scale do not fit images of {self.shape}")
        if not np.isfinite(self.mean).all() or not (self.scale > 0).all():
            raise DataError("normalization: the mean must be finite and the scale positive")

    @classmethod
    def of(cls, data: LabelledImages, kind: str = "mean-image") -> Normalization:
        """The normalization of a kind for a data set, from its training images.

        Raises
        ------
        DataError
            An unknown kind; or all training images have the same value in a channel.
        """
        one, none = np.ones(data.shape[2]), np.zeros(data.shape[2])
        if kind == "mean-image":
            return cls(kind, data.shape, data.mean_image.copy(), one)
        if kind == "per-channel":
            return cls(kind, data.shape, data.channel_mean.copy(), data.channel_std.copy())
        return cls(kind, data.shape, none, one)

    def __call__(self, images: np.ndarray, dtype: str = "float32") -> np.ndarray:
        """Normalize images.

        Parameters
        ----------
        images : (n, rows, columns, channels) uint8
        dtype : str
            Of the result.

        Returns
        -------
        (n, channels, rows, columns)

        Raises
        ------
        DataError
            They have another shape or are not bytes: pixels that were normalized twice look right
            to a program.
        """
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise DataError(
                f"expected uint8 images of {self.shape}, not {images.dtype} of {images.shape[1:]}"
            )
        rows, columns, channels = self.shape
        result = np.empty((len(images), channels, rows, columns), dtype)
        mean = np.broadcast_to(self.mean, self.shape).transpose(2, 0, 1).astype(dtype)
        np.subtract(images.transpose(0, 3, 1, 2), mean, out=result)
        if (self.scale != 1).any():
            result /= self.scale.astype(dtype)[:, None, None]
        return result

    def to_json(self) -> dict[str, object]:
        """What a model's header says of it; the numbers are in `arrays`."""
        return {"kind": self.kind, "shape": list(self.shape)}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers by name, for a model file."""
        return {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_json(
        cls, value: Mapping[str, object], arrays: Mapping[str, np.ndarray]
    ) -> Normalization:
        """Make it again from `to_json` and `arrays`.

        Raises
        ------
        DataError
            They do not fit together.
        """
        shape = value.get("shape")
        if not isinstance(shape, Sequence) or len(shape) != 3 or not {"mean", "scale"} <= {*arrays}:
            raise DataError("normalization: a shape of three numbers, mean and scale are needed")
        rows, columns, channels = shape
        if not all(isinstance(side, int) and side > 0 for side in shape):
            raise DataError(f"normalization: {list(shape)} is no shape of images")
        mean, scale = np.asarray(arrays["mean"]), np.asarray(arrays["scale"])
        return cls(str(value.get("kind")), (rows, columns, channels), mean, scale)
