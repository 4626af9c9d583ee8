"""Prepared data sets: one HDF5 file of images, captions and the vocabulary.

:meth:`Captions.prepare` makes the file from whatever a data set comes as; :class:`Captions` opens
it.  See :mod:`dlmie.data.captions.writing.writer` for its layout.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from tqdm import tqdm

from dlmie.data.captions import formats
from dlmie.data.captions.boxes import add_boxes
from dlmie.data.captions.records import Record, clean
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.captions.writing import KIND, default_workers, write_captions
from dlmie.data.images import ImageError, load_image, resize_image
from dlmie.errors import DataError
from dlmie.files.datasets import reading

__all__ = ["Captions", "Record", "Split", "check", "prepare", "write_captions"]


class Split:
    """The images of one split with their captions; made by ``captions["train"]``.

    Attributes
    ----------
    name : str
        ``"train"``, ``"dev"``, ``"test"``, …
    hash : str
        SHA-256 (hex) of its names, captions and pixels.
    data_hash : str
        That of the whole data set.
    source : dict
        Where the data came from, as the file says: ``{"format": "flickr"}``.
    """

    def __init__(self, captions: Captions, name: str) -> None:
        self.name = name
        self.data_hash: str = captions.hash
        self.hash: str = captions.header["splits"][name]["hash"]
        self.source: dict[str, Any] = dict(captions.header.get("source") or {})
        self._captions = captions

    def __len__(self) -> int:
        return self._captions.header["splits"][self.name]["images"]

    def __repr__(self) -> str:
        captions = self._captions.header["splits"][self.name]["captions"]
        return f"Split({self.name}: {len(self)} images, {captions} captions)"

    @cached_property
    def names(self) -> list[str]:
        """What each image is called."""
        return self._strings("names")

    @cached_property
    def image_ids(self) -> list[int]:
        """The number of each image in the data set's own files, else its place in the split."""
        numbers = self._group["image_ids"][()]
        return np.where(numbers < 0, np.arange(len(numbers)), numbers).tolist()

    @cached_property
    def references(self) -> list[list[str]]:
        """The captions of each image as people wrote them."""
        result: list[list[str]] = [[] for _ in range(len(self))]
        for image, text in zip(self.token_image, self._strings("references"), strict=True):
            result[image].append(text)
        return result

    @cached_property
    def tokens(self) -> list[np.ndarray]:
        """Each caption as int32 word numbers with ``START`` and ``END``; one caption, one array."""
        flat, offsets = self._group["tokens"][()], self._group["token_offsets"][()]
        return [flat[start:stop] for start, stop in pairwise(offsets)]

    @cached_property
    def token_image(self) -> np.ndarray:
        """(captions,) int64: the image (its place in the split) of each caption."""
        return self._group["token_image"][()]

    @cached_property
    def objects(self) -> list[list[dict[str, Any]] | None] | None:
        """What is where in each image (see :class:`Record`), None where this is not known.

        None as a whole where it is known of no image.
        """
        if "objects" not in self._group:
            return None
        return [json.loads(text) for text in self._strings("objects")]

    def load_images(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read images.

        Parameters
        ----------
        indices
            Places in the split, in any order, repetitions allowed.

        Returns
        -------
        np.ndarray
            (n, size, size, 3) ``uint8``, RGB.

        Raises
        ------
        DataError
            If an index is out of range, or a file that is stored as a path has gone.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise DataError(
                f"{self.name} has images 0..{len(self) - 1}, not {indices.min()}..{indices.max()}"
            )
        size = self._captions.size
        result = np.empty((len(indices), size, size, 3), np.uint8)
        if "images" not in self._group:
            for place, index in enumerate(indices):
                result[place] = resize_image(load_image(self.paths[index]), size)
            return result
        images = self._group["images"]
        for place, row in enumerate(self._rows[indices]):
            images.read_direct(result, np.s_[row], np.s_[place])
        return result

    @cached_property
    def paths(self) -> list[Path]:
        """The file of each image; only in files prepared with ``store="paths"``."""
        if "paths" not in self._group:
            raise DataError(f"{self._captions.path}: holds pixels, not paths of images")
        return [self._captions.folder / path for path in self._strings("paths")]

    @cached_property
    def _group(self) -> h5py.Group:
        if not self._captions._file:
            raise DataError(f"{self._captions.path}: was closed; open it again")
        return self._captions._file["splits"][self.name]

    @cached_property
    def _rows(self) -> np.ndarray:
        return self._group["rows"][()]

    def _strings(self, name: str) -> list[str]:
        return self._group[name].asstr()[()].tolist()


def prepare(
    source: str | Path | Sequence[str | Path],
    *,
    to: str | Path,
    images: str | Path | None = None,
    size: int = 224,
    min_count: int = 5,
    max_size: int | None = None,
    splits: Mapping[str, str | Path | Iterable[str]] | None = None,
    format: str | None = None,
    boxes: Sequence[str | Path] = (),
    tokenizer: str = "words",
    store: str = "pixels",
    strict: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Captions:
    """Read a data set of captioned images and write it as one prepared file.

    Parameters
    ----------
    source
        The captions: a Flickr ``.token.txt``, COCO ``captions_*.json``, Karpathy
        ``dataset_*.json``, CSV or ``{image: [captions]}`` JSON file, or several of them; the
        format is recognised by the content.
    to
        The file to write.
    images
        The folder of the images; by default looked for beside ``source``.
    size
        Pixels: images are resized to ``size × size``, aspect ratio not kept.
    min_count, max_size
        Words that occur less often in the training captions, and those beyond ``max_size`` in all,
        are read as ``<unk>``.
    splits
        ``{"train": file or names, "dev": …}``: which image belongs where; images that stand in
        none are not part of the data.  By default what the source says; for Flickr the lists
        ``*trainImages.txt``, ``*devImages.txt`` and ``*testImages.txt`` beside it; else by the
        hash of the image's name: 80 % train, 10 % dev, 10 % test.
    format
        ``"flickr"``, ``"coco"``, ``"karpathy"``, ``"csv"`` or ``"mapping"`` where the source is not
        recognised.
    boxes
        Files that say what is where in the images, as COCO's ``instances_*.json``: see
        :func:`~dlmie.data.captions.boxes.add_boxes`.
    tokenizer
        See :func:`~dlmie.data.captions.vocabulary.tokenize`.
    store, strict, overwrite, workers, progress
        See :func:`~dlmie.data.captions.writing.write_captions`.

    Returns
    -------
    Captions
        The prepared file, open.

    Raises
    ------
    DataError
        See :func:`~dlmie.data.captions.writing.write_captions`; or the source cannot be read.
    """
    listing = formats.read(source, images=images, splits=splits, format=format)
    records, problems = listing.records, listing.problems
    if boxes:
        records, more = add_boxes(records, boxes)
        problems = [*problems, *more]
    options = {"size": size, "min_count": min_count, "max_size": max_size, "tokenizer": tokenizer}
    path = write_captions(
        records,
        to,
        **options,  # type: ignore[arg-type]
        store=store,
        strict=strict,
        overwrite=overwrite,
        source=listing.source,
        problems=problems,
        workers=workers,
        progress=progress,
    )
    return Captions(path)


class Captions:
    """A prepared data set.

    Parameters
    ----------
    path
        A file that :meth:`prepare` wrote.
    images
        Where the images are now, for a file with ``store="paths"`` whose images were moved.

    Attributes
    ----------
    path : Path
        The file.
    header : dict
        What the file says of itself: ``size``, ``splits``, ``tokenizer``, ``min_count``,
        ``skipped`` (images left out, with the reason), ``problems``, ``source``, …
    size : int
        Height and width of the images in pixels.
    hash : str
        SHA-256 (hex) of the content: vocabulary, names, captions and pixels.  The same data
        prepared elsewhere, or with ``store="paths"``, has the same hash.
    vocabulary : Vocabulary
        The words of the training captions.
    splits : list[str]
        The splits in the file.

    Raises
    ------
    DataError
        If the file is missing, damaged, not a prepared file or of a newer format.

    Examples
    --------
    Open and look::

        data = Captions("flickr8k.h5")
        train = data["train"]
        print(len(train), train.references[0], train.load_images([0]).shape)
    """

    prepare = staticmethod(prepare)

    def __init__(self, path: str | Path, images: str | Path | None = None) -> None:
        self.path = Path(path)
        with reading(self.path, KIND) as (self._file, self.header):
            self.size: int = self.header["size"]
            self.hash: str = self.header["hash"]
            self.splits: list[str] = list(self.header["splits"])
            words = self._file["vocabulary"].asstr()[()].tolist()
            self.vocabulary = Vocabulary(words, self.header["tokenizer"])
        self.folder = Path(images or self.header.get("folder") or ".")
        self._splits: dict[str, Split] = {}

    @property
    def names(self) -> list[str]:
        """What the images are called, split after split."""
        return [name for split in self for name in split.names]

    def __getitem__(self, name: str) -> Split:
        if name not in self.splits:
            raise DataError(f"{self.path}: has no split {name!r}; it has {', '.join(self.splits)}")
        if name not in self._splits:
            self._splits[name] = Split(self, name)
        return self._splits[name]

    def __contains__(self, name: object) -> bool:
        return name in self.splits

    def __iter__(self) -> Iterator[Split]:
        return (self[name] for name in self.splits)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split.name} {len(split)}" for split in self)
        return (
            f"Captions({self.path.name}: {sizes}; {len(self.vocabulary)} words; "
            f"{self.size}×{self.size})"
        )

    def close(self) -> None:
        """Close the file; what was not read yet cannot be read any more."""
        self._file.close()

    def __enter__(self) -> Captions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check(
    source: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    splits: Mapping[str, str | Path | Iterable[str]] | None = None,
    format: str | None = None,
    boxes: Sequence[str | Path] = (),
    tokenizer: str = "words",
    workers: int | None = None,
    progress: bool = True,
) -> list[str]:
    """Find everything in a data set that :func:`prepare` would leave out; change nothing.

    Every row is parsed, every caption tokenised and every image decoded.

    Parameters
    ----------
    source, images, splits, format, boxes, tokenizer, workers, progress
        See :func:`prepare`.

    Returns
    -------
    list[str]
        One line a problem; empty if all is well.

    Raises
    ------
    DataError
        If the source as a whole cannot be read.
    """
    listing = formats.read(source, images=images, splits=splits, format=format)
    records, more = clean(listing.records, tokenizer)
    problems = [*listing.problems, *more]
    if boxes:
        problems += add_boxes(records, boxes)[1]
    if not any(record.split == "train" for record in records):
        problems.append("no training image with captions")

    def fault(record: Record) -> str | None:
        try:
            load_image(record.image if isinstance(record.image, Path) else record.image())
        except ImageError as error:
            return f"{record.name}: {error}"
        return None

    with ThreadPoolExecutor(workers or default_workers()) as pool:
        faults = pool.map(fault, records)
        bar = tqdm(faults, total=len(records), disable=not progress, unit="image", desc="images")
        problems += [line for line in bar if line]
    return problems
