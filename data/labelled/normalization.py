"""From pixels to the input of a classifier: a mean is subtracted, and a scale divided by.

Of the pixels themselves, or of features that are made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.data.labelled.dataset import LabelledImages, LabelledSplit
from dlmie.data.labelled.image_features import FEATURES
from dlmie.errors import DataError
from dlmie.text import suggest

KINDS = ("mean-image", "per-channel", "none", *FEATURES)


@dataclass(frozen=True, eq=False)
class Normalization:
    """``(pixels - mean) / scale`` for pixels of 0..255; a model keeps the one it learned with.

    Attributes
    ----------
    kind : str
        ``"mean-image"``: each pixel's mean over the training images, scale 1 (cs231n);
        ``"per-channel"``: mean and standard deviation of each channel; ``"none"``; or the name of
        features, see :class:`FeatureNormalization`.
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
        self._check_numbers()

    @property
    def inputs(self) -> tuple[int, int, int]:
        """What a model sees of each image: channels, rows and columns."""
        rows, columns, channels = self.shape
        return channels, rows, columns

    @classmethod
    def of(cls, data: LabelledImages, kind: str = "mean-image") -> Normalization:
        """The normalization of a kind for a data set, from its training images.

        Raises
        ------
        DataError
            An unknown kind; all training images have the same value in a channel; or images that
            the features cannot be made of.
        """
        if kind in FEATURES:
            values = data["train"].features(kind)
            spread = values.std(axis=0, dtype=np.float64)
            scale = np.where(spread > 0, spread, 1)
            mean = values.mean(axis=0, dtype=np.float64)
            return FeatureNormalization(kind, data.shape, mean, scale)
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
        self._check_images(images)
        rows, columns, channels = self.shape
        result = np.empty((len(images), channels, rows, columns), dtype)
        mean = np.broadcast_to(self.mean, self.shape).transpose(2, 0, 1).astype(dtype)
        np.subtract(images.transpose(0, 3, 1, 2), mean, out=result)
        if (self.scale != 1).any():
            result /= self.scale.astype(dtype)[:, None, None]
        return result

    def _check_numbers(self) -> None:
        if not np.isfinite(self.mean).all() or not (self.scale > 0).all():
            raise DataError("normalization: the mean must be finite and the scale positive")

    def _check_images(self, images: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.shape[1:] != self.shape:
            raise DataError(
                f"expected uint8 images of {self.shape}, not {images.dtype} of {images.shape[1:]}"
            )

    def load(self, split: LabelledSplit, index: np.ndarray, dtype: str = "float32") -> np.ndarray:
        """The images at some places of a split, normalized."""
        return self(split.load_images(index), dtype)

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
            raise DataError(f"normalization: {list(shape)} is not the shape of images")
        mean, scale = np.asarray(arrays["mean"]), np.asarray(arrays["scale"])
        kind = str(value.get("kind"))
        made = FeatureNormalization if kind in FEATURES else Normalization
        return made(kind, (rows, columns, channels), mean, scale)


class FeatureNormalization(Normalization):
    """Features of images instead of their pixels, with mean 0 and deviation 1 in training.

    Attributes
    ----------
    kind : str
        ``"hog"`` or ``"hog-course"``: see :mod:`dlmie.data.labelled.image_features`.
    shape : (rows, columns, channels)
        Of the images.
    mean, scale : (features,) float64
    """

    def __post_init__(self) -> None:
        if self.kind not in FEATURES:
            raise DataError(f"unknown features {self.kind!r}{suggest(self.kind, FEATURES)}")
        if self.mean.ndim != 1 or self.mean.shape != self.scale.shape:
            raise DataError("normalization: mean and scale need a number for each feature")
        self._check_numbers()

    @property
    def inputs(self) -> tuple[int, int, int]:
        return len(self.mean), 1, 1

    def __call__(self, images: np.ndarray, dtype: str = "float32") -> np.ndarray:
        """uint8 images (n, rows, columns, channels) → (n, features, 1, 1)."""
        self._check_images(images)
        return self._normalized(FEATURES[self.kind](images), dtype)

    def load(self, split: LabelledSplit, index: np.ndarray, dtype: str = "float32") -> np.ndarray:
        return self._normalized(split.features(self.kind)[index], dtype)

    def _normalized(self, features: np.ndarray, dtype: str) -> np.ndarray:
        if features.shape[1:] != self.mean.shape:
            raise DataError(f"{self.kind}: {features.shape[1]} features, not {len(self.mean)}")
        return ((features - self.mean) / self.scale).astype(dtype)[:, :, None, None]
