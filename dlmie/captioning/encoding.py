"""A compiled encoder: NumPy around one function, from photographs to annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, Preprocessing, load_image, preprocess
from dlmie.errors import DlmieError


class CompiledEncoder:
    """One layer of a network as a compiled function.

    Parameters
    ----------
    run : callable
        Preprocessed images (n, 3, size, size) → annotations (n, channels[, rows, columns]).
    preprocessing : Preprocessing
    average_flip : bool
        See :class:`~dlmie.captioning.Encoder`.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray], np.ndarray],
        preprocessing: Preprocessing,
        *,
        average_flip: bool = False,
    ) -> None:
        self.run, self.preprocessing, self.average_flip = run, preprocessing, average_flip

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Preprocessed images (n, 3, size, size) → annotations (n, channels[, rows, columns])."""
        rows = self.run(inputs)
        if not self.average_flip:
            return rows
        return mean_of_flipped(rows, self.run(np.ascontiguousarray(inputs[..., ::-1])))

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """Images (n, rows, columns, 3) uint8 → annotations."""
        return self(preprocess(images, self.preprocessing))

    def photographs(self, images: Iterable[ImageSource], batch: int = 16) -> np.ndarray:
        """Anything ``load_image`` reads → annotations; pixels of ``batch`` images at a time."""
        first = self.preprocessing.sizes[0]
        parts, pending = [], []
        for image in images:
            pending.append(load_image(image, first))
            if len(pending) == batch:
                parts.append(self.pixels(np.stack(pending)))
                pending = []
        if pending:
            parts.append(self.pixels(np.stack(pending)))
        if not parts:
            raise DlmieError("no image was given")
        return np.concatenate(parts)


def mean_of_flipped(features: Any, flipped: Any) -> Any:
    """The mean of the features of images and of their mirror images, cell by cell.

    NumPy or symbolic, (n, channels, rows, columns) or (n, channels) each.
    """
    return (features + (flipped[..., ::-1] if features.ndim == 4 else flipped)) * np.float32(0.5)
