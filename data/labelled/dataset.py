"""Prepared labeled images: one HDF5 file of images, labels and the names of their classes.

:meth:`LabelledImages.prepare` makes the file from whatever the images come in;
:class:`LabelledImages` opens it. See :mod:`dlmie.data.labelled.writer` for its layout.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from dlmie.data.labelled.image_features import FEATURES
from dlmie.data.labelled.sources import Reading, open_source
from dlmie.data.labelled.sources.drawn_scenes import DrawnScenes
from dlmie.data.labelled.sources.source import checked_labels
from dlmie.data.labelled.splitting import choose_splits
from dlmie.data.labelled.writer import KIND, write_labelled
from dlmie.data.prefetch import default_workers
from dlmie.data.splits import name_of_split
from dlmie.errors import DataError
from dlmie.files import hdf5
from dlmie.files.datasets import reading
from dlmie.files.schema import Key, check_document
from dlmie.progress import Bar

__all__ = ["LabelledImages", "LabelledSplit", "check", "prepare", "prepare_labelled_scenes"]

#: Images are kept in memory, from when they are first asked for, up to so many bytes per split.
IN_MEMORY = 2 * 2**30
# Images of which features are made at once.
_AT_ONCE = 500


_SPLIT = {
    "images": Key(int, low=0),
    "per_class": Key(list, each=Key(int, low=0)),
    "hash": Key(str),
}
_HEADER = {
    "shape": Key(list, length=3, each=Key(int, low=1, high=100_000)),
    "classes": Key(list, each=Key(str)),
    "splits": Key(dict, each=Key(dict, keys=_SPLIT)),
    "hash": Key(str),
    "source": Key(dict),
    "skipped": Key(list, each=Key(str)),
    "problems": Key(list, each=Key(str)),
}


class LabelledSplit:
    """The images of one split with their labels; made by ``data["train"]``.

    Attributes
    ----------
    name : str
        ``"train"``, ``"dev"`` or ``"test"``.
    classes : list of str
        Names of the classes by label.
    labels : (images,) int64
    hash : str
        SHA-256 (hex) of its images and labels.
    data_hash : str
        That of the whole file.
    """

    def __init__(self, data: LabelledImages, name: str) -> None:
        self._data, self.name = data, name
        self.classes, self.data_hash = data.classes, data.hash
        self.hash: str = data.header["splits"][name]["hash"]
        self._features: dict[str, np.ndarray] = {}
        with data.damage():
            labels = hdf5.numbers(self._group["labels"])
            count = len(self._group["images"])
        self.labels = checked_labels(labels, len(self.classes), f"{data.path}: {name}")
        if len(self.labels) != count:
            raise DataError(f"{data.path}: {name} has {count:,} images and {len(labels):,} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"LabelledSplit({self.name}: {len(self):,} images, {len(self.classes)} classes)"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of every image."""
        return self._data.shape

    @property
    def mean_image(self) -> np.ndarray:
        """(rows, columns, channels) float64: the mean of the training images."""
        return self._data.mean_image

    @cached_property
    def images(self) -> np.ndarray:
        """(images, rows, columns, channels) uint8, read once and then kept."""
        with self._data.damage():
            return np.asarray(self._group["images"][()])

    @cached_property
    def names(self) -> list[str]:
        """What the images are called; their places in the split where nobody named them."""
        if "names" not in self._group:
            return [str(place) for place in range(len(self))]
        with self._data.damage():
            return hdf5.read_texts(self._group["names"])

    def features(self, kind: str) -> np.ndarray:
        """Features of every image, computed when they are first asked for and then kept.

        Parameters
        ----------
        kind
            A name in :data:`dlmie.data.labelled.image_features.FEATURES`.

        Returns
        -------
        np.ndarray
            (images, features)
        """
        if kind not in self._features:
            parts = []
            title = f"{kind} of {self.name}"
            with Bar(total=len(self), unit="image", desc=title, disable=None) as bar:
                for start in range(0, len(self), _AT_ONCE):
                    places = np.arange(start, min(start + _AT_ONCE, len(self)))
                    parts.append(FEATURES[kind](self.load_images(places)))
                    bar.update(len(places))
            self._features[kind] = np.concatenate(parts)
        return self._features[kind]

    def load_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Some images; a split of less than `IN_MEMORY` bytes is then kept in memory.

        Parameters
        ----------
        indices
            Places in the split, in any order, repetitions allowed.

        Returns
        -------
        np.ndarray
            (n, rows, columns, channels) uint8.

        Raises
        ------
        DataError
            An index is out of range, or the file is damaged.
        """
        indices = self._checked(indices)
        if len(self) * np.prod(self.shape) <= IN_MEMORY:
            return self.images[indices]
        places, inverse = np.unique(indices, return_inverse=True)  # HDF5 reads in this order only
        with self._data.damage():
            return np.asarray(self._group["images"][places])[inverse]

    def _checked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Places in the split as an array (n,) int64; DataError for one that is out of range."""
        indices = np.asarray(indices, np.int64).reshape(-1)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise DataError(
                f"{self.name} has images 0..{len(self) - 1}, not {indices.min()}..{indices.max()}"
            )
        return indices

    @property
    def _group(self) -> h5py.Group:
        return self._data.file["splits"][self.name]


def prepare(
    source: str | Path,
    *,
    to: str | Path,
    size: int | None = None,
    splits: Mapping[str, int] | None = None,
    strict: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> LabelledImages:
    """Read a data set of labeled images and write it as one prepared file.

    Parameters
    ----------
    source
        CIFAR-10 (``cifar-10-batches-py``, ``cifar-10-batches-bin`` or the ``.tar.gz`` of either),
        the folder of MNIST's files, that of Tiny-ImageNet, or any folder of images by class:
        ``train/cat/1.png`` or ``cat/1.png``.
    to
        The file to write.
    size
        Of image files: resize them to ``size × size`` pixels, aspect ratio not kept. By default
        they stay as they are, and must be equal.
    splits
        How many images each split is to have: ``{"train": 49_000, "dev": 1_000, "test": 1_000}``.
        See :func:`~dlmie.data.labelled.splitting.choose_splits`.
    strict, overwrite, workers, progress
        See :func:`~dlmie.data.labelled.writer.write_labelled`.

    Returns
    -------
    LabelledImages
        The prepared file, open.

    Raises
    ------
    DataError
        The source cannot be read, or see :func:`~dlmie.data.labelled.writer.write_labelled`.
    """
    path = write_labelled(
        open_source(source, size=size),
        to,
        splits=splits,
        strict=strict,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )
    return LabelledImages(path)


def prepare_labelled_scenes(
    to: str | Path,
    *,
    labels: str = "shape",
    seed: int = 0,
    train: int = 2000,
    dev: int = 200,
    test: int = 200,
    size: int = 32,
    overwrite: bool = False,
    progress: bool = True,
) -> LabelledImages:
    """Draw scenes and write them as prepared labeled images: a data set without any download.

    Parameters
    ----------
    to
        The file to write.
    labels
        What is asked of a scene: ``"shape"`` (10 classes), ``"color"`` (8) or ``"count"`` (4).
    seed
        Another seed gives other scenes.
    train, dev, test
        Number of scenes of each split; no two splits share a combination of shape, color, size,
        texture and count.
    size
        Height and width in pixels, at least 32.
    overwrite
        Replace a file that holds something else.
    progress
        Show a bar.

    Returns
    -------
    LabelledImages
        The prepared file, open.

    Examples
    --------
    >>> data = prepare_labelled_scenes("shapes.h5")  # doctest: +SKIP
    """
    counts = {"train": train, "dev": dev, "test": test}
    source = DrawnScenes(labels, counts, seed=seed, size=size)
    return LabelledImages(write_labelled(source, to, overwrite=overwrite, progress=progress))


class LabelledImages:
    """A prepared data set of labeled images.

    Parameters
    ----------
    path
        A file that :meth:`prepare` wrote.

    Attributes
    ----------
    path : Path
    header : dict
        What the file says of itself: ``splits``, ``source``, ``problems``, ``skipped``, …
    shape : (rows, columns, channels)
        Of every image.
    classes : list of str
        Names of the classes by label.
    splits : list of str
        The splits in the file.
    hash : str
        SHA-256 (hex) of the content: classes, images and labels. The same data prepared elsewhere,
        or from the other version of its files, has the same hash.
    mean_image : (rows, columns, channels) float64
        The mean of the training images.
    channel_mean, channel_std : (channels,) float64
        Of all pixels of the training images.

    Raises
    ------
    DataError
        The file is missing, damaged, not of this kind or of a newer format.

    Examples
    --------
    Open and look::

        data = LabelledImages("cifar10.h5")
        train = data["train"]
        print(len(train), train.images.shape, train.classes[train.labels[0]])
    """

    prepare = staticmethod(prepare)

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with reading(self.path, KIND) as (self.file, self.header):
            check_document(self.header, _HEADER, self.path)
            rows, columns, channels = self.header["shape"]
            self.shape = (rows, columns, channels)
            self.classes: list[str] = self.header["classes"]
            self.splits: list[str] = list(self.header["splits"])
            self.hash: str = self.header["hash"]
            counts = [split["per_class"] for split in self.header["splits"].values()]
            if any(len(each) != len(self.classes) for each in counts):
                raise ValueError("another number of classes")
            self.mean_image = hdf5.numbers(self.file["mean_image"])
            self.channel_std = hdf5.numbers(self.file["channel_std"])
            for name in self.splits:
                if self.file["splits"][name]["images"].shape[1:] != self.shape:
                    raise ValueError("images of another shape")
            if self.mean_image.shape != self.shape or self.channel_std.shape != (channels,):
                raise ValueError("a mean of another shape")
        self.channel_mean = self.mean_image.mean(axis=(0, 1))
        self._splits: dict[str, LabelledSplit] = {}

    @contextlib.contextmanager
    def damage(self) -> Iterator[None]:
        """Turn what reading raises where the file is damaged, or closed, into one line."""
        try:
            yield
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            if not self.file:
                raise DataError(f"{self.path}: was closed; open it again") from None
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{self.path}: is damaged ({reason}); run {KIND.command} again"
            ) from None

    def __getitem__(self, name: str) -> LabelledSplit:
        asked, name = name, name_of_split(name, self.splits)
        if name not in self.splits:
            raise DataError(f"{self.path}: has no split {asked!r}; it has {', '.join(self.splits)}")
        if name not in self._splits:
            self._splits[name] = LabelledSplit(self, name)
        return self._splits[name]

    def __contains__(self, name: object) -> bool:
        return name_of_split(name, self.splits) in self.splits

    def __iter__(self) -> Iterator[LabelledSplit]:
        return (self[name] for name in self.splits)

    def __len__(self) -> int:
        """Images in all splits."""
        return sum(len(split) for split in self)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split.name} {len(split):,}" for split in self)
        shape = "×".join(map(str, self.shape))
        return f"LabelledImages({self.path.name}: {sizes}; {len(self.classes)} classes; {shape})"

    def close(self) -> None:
        """Close the file; what was not read yet cannot be read any more."""
        self.file.close()

    def __enter__(self) -> LabelledImages:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check(
    source: str | Path,
    *,
    size: int | None = None,
    splits: Mapping[str, int] | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Find everything in a source that :func:`prepare` would refuse or leave out; change nothing.

    Every label is read and every image decoded.

    Parameters
    ----------
    source, size, splits, workers, progress
        See :func:`prepare`.

    Returns
    -------
    list of str
        One line per problem; empty if all is well.

    Raises
    ------
    DataError
        The source as a whole cannot be read.
    """
    found = open_source(source, size=size)
    problems = [*found.errors, *found.problems]
    if not found.errors:
        choose_splits(found.parts, splits)
    state = Reading(workers or default_workers())
    total = sum(map(len, found.parts.values()))
    with Bar(total=total, disable=not progress, unit="image", desc="images") as bar:
        try:
            for block in found.blocks(state):
                bar.update(len(block.positions))
        except DataError as error:
            problems.append(str(error))
    return [*problems, *state.skipped]
