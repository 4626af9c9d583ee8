"""TinyImageNet-100-A, the photographs of the cs231n visualization assignment, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.data.images import load_image
from dlmie.data.labelled.sources.tiny_imagenet import SIZE, TinyImageNetFolder
from dlmie.errors import DataError


@dataclass
class TinyImageNet:
    """All images with their labels; 2.8 GB of memory for the whole set.

    Attributes
    ----------
    class_names : list of list of str
        By label: all names of the class, the first of them the usual one.
    X_train, X_val, X_test : (images, 3, 64, 64)
        RGB in gray levels of 0..255, less ``mean_image`` where that was subtracted.
    y_train, y_val : (images,) int32
    y_test : (images,) int32 or None
        None where the folder does not hold the answers.
    mean_image : (3, 64, 64)
        Of the training images.

    Examples
    --------
    ::

        data = TinyImageNet.read("tiny-imagenet-100-A")
        net = PretrainedCNN("pretrained_model.h5", mean=data.mean_pixel)
    """

    class_names: list[list[str]]
    X_train: np.ndarray
    y_train: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray | None
    mean_image: np.ndarray

    @property
    def mean_pixel(self) -> tuple[float, float, float]:
        """The mean color (red, green, blue) of the training images."""
        red, green, blue = self.mean_image.mean(axis=(1, 2))
        return float(red), float(green), float(blue)

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        *,
        dtype: str = "float32",
        subtract_mean: bool = True,
        progress: bool = False,
    ) -> TinyImageNet:
        """Read a folder of that layout.

        Parameters
        ----------
        folder
        dtype : str
            Of the images.
        subtract_mean : bool
            Whether to subtract the mean image of the training set from all images.
        progress : bool
            Show a bar.

        Raises
        ------
        DataError
            A file is missing, names what is not there, or holds an image of another size.
        """
        source = TinyImageNetFolder(Path(folder), size=SIZE)
        labels = {part: found.labels.astype(np.int32) for part, found in source.parts.items()}
        unlabelled = sorted((source.folder / "test" / "images").glob("*"))
        X_train, X_val, X_test = (
            _images(source.files.get(part, unlabelled), dtype, part, progress)
            for part in ("train", "dev", "test")
        )
        if not len(X_train):
            raise DataError(f"{folder}: has no training images")
        mean_image = X_train.mean(axis=0, dtype=np.float64).astype(dtype)
        if subtract_mean:
            for images in (X_train, X_val, X_test):
                images -= mean_image
        return cls(
            class_names=source.class_names,
            X_train=X_train,
            y_train=labels["train"],
            X_val=X_val,
            y_val=labels["dev"],
            X_test=X_test,
            y_test=labels.get("test"),
            mean_image=mean_image,
        )


def _images(files: Sequence[Path], dtype: str, split: str, progress: bool) -> np.ndarray:
    """(images, 3, 64, 64), gray ones in three equal channels."""
    from dlmie.progress import Bar

    result = np.empty((len(files), 3, SIZE, SIZE), dtype)
    shown: Iterable[Path] = Bar(files, f"reading {split}", disable=not progress, unit="image")
    for planes, path in zip(result, shown, strict=True):
        pixels = load_image(path)
        if pixels.shape[:2] != (SIZE, SIZE):
            rows, columns = pixels.shape[:2]
            raise DataError(f"{path}: is {rows} × {columns}, not {SIZE} × {SIZE} pixels")
        planes[:] = pixels.transpose(2, 0, 1)
    return result
