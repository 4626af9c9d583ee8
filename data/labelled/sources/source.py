"""What every source of labeled images says of itself before its pixels are read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from dlmie.errors import DataError

#: The part of a source that says nothing about splits.
UNDIVIDED = ""


@dataclass
class Part:
    """The images that a source keeps together: its training images, its test images, or all.

    Attributes
    ----------
    labels : (images,) int64
        Numbers of classes.
    names : list of str, optional
        What the images are called.
    """

    labels: np.ndarray
    names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Block:
    """Some images of a part, in its order; those that cannot be used are missing.

    Attributes
    ----------
    part : str
    positions : (n,) int64
        Which images of the part these are.
    images : (n, rows, columns, channels) uint8
    """

    part: str
    positions: np.ndarray
    images: np.ndarray


@dataclass
class Reading:
    """How pixels are to be read, and what went wrong with single images meanwhile.

    Attributes
    ----------
    workers : int
        Threads that decode.
    skipped : list of str
        One line for each image that was left out, with the reason.
    """

    workers: int = 1
    skipped: list[str] = field(default_factory=list)


class Source(ABC):
    """Labeled images in the files that they come in.

    A subclass finds out in ``__init__`` all but the pixels: ``classes``, ``shape``, ``parts``, and
    what is wrong.

    Attributes
    ----------
    classes : list of str
        Names of the classes by label.
    shape : (rows, columns, channels)
        Of every image.
    parts : dict of Part
        By split, "train" and "test"; or one part, `UNDIVIDED`, where the source has no splits.
    problems : list of str
        One line for everything that is left out.
    errors : list of str
        One line for everything without which the rest is not what it claims to be.
    """

    format: ClassVar[str]

    def __init__(self) -> None:
        self.classes: list[str] = []
        self.shape: tuple[int, int, int] = (0, 0, 0)
        self.parts: dict[str, Part] = {}
        self.problems: list[str] = []
        self.errors: list[str] = []

    @abstractmethod
    def blocks(self, reading: Reading) -> Iterator[Block]:
        """Read the images, part after part."""

    @property
    @abstractmethod
    def origin(self) -> dict[str, object]:
        """Where the images come from, as JSON values; equal origins have equal images."""


def file_stamp(path: Path) -> list[object]:
    """Name, size and time of a file, which change when its content does."""
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def checked_labels(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Labels as int64, each the number of a class.

    Raises
    ------
    DataError
        Names the first that is not.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: its labels are not a list of whole numbers")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{where}: label {labels[first]} of image {first} is not one of 0..{classes - 1}"
        )
    return labels.astype(np.int64)


def grouped(part: str, images: np.ndarray, start: int, size: int) -> Iterator[Block]:
    """Cut images that are in memory, the first of them number ``start``, into blocks."""
    for first in range(0, len(images), size):
        some = images[first : first + size]
        yield Block(part, np.arange(start + first, start + first + len(some)), some)


def rows_to_images(rows: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """(n, channels × rows × columns) → (n, rows, columns, channels)."""
    height, width, channels = shape
    return rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
