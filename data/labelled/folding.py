"""Parts of a split as splits of their own: for cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dlmie.data.labelled.dataset import LabelledSplit
from dlmie.errors import DataError


class PartOfSplit(LabelledSplit):
    """Some images of a split, in order; used as the split itself is.

    Parameters
    ----------
    whole : LabelledSplit
    places : (images,) int64
        Which of its images.
    name : str
        What the part is called in messages and protocols.
    """

    def __init__(self, whole: LabelledSplit, places: np.ndarray, name: str) -> None:
        self.whole, self.places, self.name = whole, places, name
        self.classes, self.data_hash = whole.classes, whole.data_hash
        self.labels = whole.labels[places]
        chosen = hashlib.sha256(places.astype("<i8").tobytes()).hexdigest()
        self.hash = hashlib.sha256(f"{whole.hash} {chosen}".encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @property
    def mean_image(self) -> np.ndarray:
        """That of all training images."""
        return self.whole.mean_image

    @cached_property
    def images(self) -> np.ndarray:
        return self.whole.load_images(self.places)

    @cached_property
    def names(self) -> list[str]:
        return [self.whole.names[place] for place in self.places]

    def features(self, kind: str) -> np.ndarray:
        return self.whole.features(kind)[self.places]

    def load_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.whole.load_images(self.places[self._checked(indices)])


def fold(split: LabelledSplit, folds: int, number: int) -> tuple[PartOfSplit, PartOfSplit]:
    """All but one of equal parts of a split, and that part.

    Every ``folds``-th image is in a part, so that data in the order of their classes are divided
    evenly.

    Parameters
    ----------
    split : LabelledSplit
    folds : int
        Parts, at least 2.
    number : int
        Of the part that is left out, from 0 on.

    Raises
    ------
    DataError
        There is no such part, or it would have no images.
    """
    if not 2 <= folds <= len(split):
        raise DataError(f"{len(split):,} images cannot be divided into {folds} folds")
    if not 0 <= number < folds:
        raise DataError(f"there is no fold {number}; {folds} folds are 0 to {folds - 1}")
    places = np.arange(len(split))
    mine = places % folds == number
    title = f"{split.name}, fold {number} of {folds}"
    rest = PartOfSplit(split, places[~mine], f"{split.name} without fold {number} of {folds}")
    return rest, PartOfSplit(split, places[mine], title)
