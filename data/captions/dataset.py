"""Prepared data sets: one HDF5 file of images, captions and the vocabulary.

:meth:`Captions.prepare` makes the file from whatever a data set comes as; :class:`Captions` opens
it.  See :mod:`dlmie.data.captions.writing.writer` for its layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dlmie.data.captions import formats
from dlmie.data.captions.boxes import add_boxes
from dlmie.data.captions.formats import Reading
from dlmie.data.captions.formats.source import label_of
from dlmie.data.captions.records import Record
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.captions.writing import KIND, write_captions
from dlmie.data.images import ImageFolder, load_image
from dlmie.data.splits import SHARES, name_of_split
from dlmie.errors import DataError
from dlmie.files.datasets import reading
from dlmie.files.documents import parse_json
from dlmie.files.hdf5 import numbers, read_texts
from dlmie.files.outputs import Outputs
from dlmie.files.schema import Key, check_document

__all__ = [
    "Captions",
    "Reading",
    "Record",
    "Split",
    "prepare",
    "write_captions",
]


_HEADER = {
    "size": Key(int, low=1, high=100_000),
    "hash": Key(str),
    "tokenizer": Key(str),
    "tokenizer_contract": Key(int, low=1, required=False),
    "splits": Key(
        dict,
        each=Key(
            dict,
            keys={"images": Key(int, low=0), "captions": Key(int, low=0), "hash": Key(str)},
        ),
    ),
    "source": Key(dict, required=False, null=True),
    "folder": Key(str, required=False, null=True),
    "skipped": Key(list, required=False, each=Key(dict, keys={"reason": Key(str)})),
    "problems": Key(list, required=False, each=Key(str)),
}
_OBJECT = {
    "name": Key(str),
    "words": Key(list, each=Key(str)),
    "attributes": Key(list, required=False, each=Key(str)),
    "box": Key(list, each=Key(float)),
}
_OBJECTS = Key(list, each=Key(list, null=True, each=Key(dict, keys=_OBJECT)))


class Split:
    """The images of one split with their captions; made by ``captions["train"]``.

    Attributes
    ----------
    name : str
        ``"train"``, ``"dev"``, ``"test"``, …
    hash : str
        SHA-256 (hex) of its names, captions and pixels.
    path : Path
        The prepared file.
    data_hash : str
        That of the whole data set.
    source : dict
        Where the data came from, as the file says: ``{"format": "flickr"}``.
    size : int
        Height and width of the images in pixels.
    """

    def __init__(self, captions: Captions, name: str) -> None:
        self.name = name
        self.path: Path = captions.path
        self.data_hash: str = captions.hash
        self.size: int = captions.size
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
        return self._strings("names", len(self))

    @cached_property
    def image_ids(self) -> list[int | str]:
        """What the data set's own files call each image.

        Where they have no labels, it is the place in the split; where only this image has none,
        its name.
        """
        if "image_labels" in self._group:
            labels = self._json("image_labels")
            if not all(label is None or label == label_of(label) for label in labels):
                raise self._damaged("image_labels")
        else:
            ids = self._numbers("image_ids", len(self)).tolist()
            labels = [None if id < 0 else id for id in ids]
        if all(label is None for label in labels):
            return list(range(len(labels)))
        return [
            name if label is None else label for label, name in zip(labels, self.names, strict=True)
        ]

    @cached_property
    def references(self) -> list[list[str]]:
        """The captions of each image as people wrote them."""
        result: list[list[str]] = [[] for _ in range(len(self))]
        texts = self._strings("references", len(self.token_image))
        for image, text in zip(self.token_image, texts, strict=True):
            result[image].append(text)
        return result

    @cached_property
    def tokens(self) -> list[np.ndarray]:
        """Each caption as int32 word numbers with ``START`` and ``END``; one caption, one array."""
        flat = self._numbers("tokens", low=0, high=len(self._captions.vocabulary) - 1)
        count = len(self.token_image) + 1
        offsets = self._numbers("token_offsets", count, low=0, high=len(flat))
        if (np.diff(offsets) < 0).any():
            raise self._damaged("token_offsets")
        return [flat[start:stop] for start, stop in pairwise(offsets)]

    @cached_property
    def token_image(self) -> np.ndarray:
        """(captions,) int64: the image (its place in the split) of each caption."""
        count = self._captions.header["splits"][self.name]["captions"]
        return self._numbers("token_image", count, low=0, high=len(self) - 1)

    @cached_property
    def objects(self) -> list[list[dict[str, Any]] | None] | None:
        """What is where in each image (see :class:`Record`), None where this is not known.

        None as a whole where it is known of no image.
        """
        if "objects" not in self._group:
            return None
        values = self._json("objects")
        where = f"{self._captions.path}: splits/{self.name}/objects"
        check_document({"objects": values}, {"objects": _OBJECTS}, where)
        return values

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
            If an index is out of range, or a file that is stored as a path was not found.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise DataError(
                f"{self.name} has images 0..{len(self) - 1}, not {indices.min()}..{indices.max()}"
            )
        size = self.size
        result = np.empty((len(indices), size, size, 3), np.uint8)
        if "images" not in self._group:
            for place, index in enumerate(indices):
                result[place] = load_image(self.paths[index], size)
            return result
        images = self._group["images"]
        fits = isinstance(images, h5py.Dataset) and images.shape[1:] == (size, size, 3)
        if not fits or images.dtype != np.uint8:
            raise self._damaged("images")
        try:
            for place, row in enumerate(self._rows[indices]):
                images.read_direct(result, np.s_[row], np.s_[place])
        except OSError:
            raise self._damaged("images") from None
        return result

    @cached_property
    def paths(self) -> list[Path]:
        """The file of each image; only in files prepared with ``store="paths"``."""
        if "paths" not in self._group:
            raise DataError(f"{self._captions.path}: holds pixels, not paths of images")
        folder, paths = self._captions.folder, self._strings("paths", len(self))
        for path in paths:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise DataError(f"{self._captions.path}: {path} lies outside of its folder")
        if not folder.is_dir():  # reading one of them says so
            return [folder / path for path in paths]
        files = ImageFolder(folder, folder)  # copying may have changed the form of names
        return [files.find(path).path for path in paths]

    @cached_property
    def _group(self) -> h5py.Group:
        if not self._captions._file:
            raise DataError(f"{self._captions.path}: was closed; open it again")
        return self._captions._file["splits"][self.name]

    @cached_property
    def _rows(self) -> np.ndarray:
        slots = len(self._group["images"]) if "images" in self._group else None
        return self._numbers("rows", len(self), low=0, high=None if slots is None else slots - 1)

    def _numbers(
        self,
        name: str,
        count: int | None = None,
        *,
        low: int | None = None,
        high: int | None = None,
    ) -> np.ndarray:
        """A row of whole numbers, so many, within bounds that include their ends."""
        try:
            values = numbers(self._group[name])
        except (KeyError, ValueError, OSError):
            raise self._damaged(name) from None
        fits = values.ndim == 1 and values.dtype.kind in "iu"
        fits = fits and (count is None or len(values) == count)
        if fits and len(values):
            fits = low is None or int(values.min()) >= low
            fits = fits and (high is None or int(values.max()) <= high)
        if not fits:
            raise self._damaged(name)
        return values

    def _strings(self, name: str, count: int | None = None) -> list[str]:
        try:
            texts = read_texts(self._group[name])
        except (KeyError, ValueError, OSError):
            raise self._damaged(name) from None
        if count is not None and len(texts) != count:
            raise self._damaged(name)
        return texts

    def _json(self, name: str) -> list[Any]:
        """A JSON value for each image."""
        where = f"{self._captions.path}: splits/{self.name}/{name}"
        return [parse_json(text, where) for text in self._strings(name, len(self))]

    def _damaged(self, name: str) -> DataError:
        return DataError(
            f"{self._captions.path} is damaged: splits/{self.name}/{name} does not fit the rest; "
            "run dlmie prepare again"
        )


def prepare(
    source: str | Path | Sequence[str | Path],
    *,
    to: str | Path,
    images: str | Path | None = None,
    size: int = 224,
    min_count: int = 5,
    max_size: int | None = None,
    splits: Mapping[str, str | Path | Iterable[str]] | None = None,
    split_of: Mapping[str, str] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    groups: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    image_column: str | None = None,
    caption_columns: Sequence[str] = (),
    group_column: str | None = None,
    boxes: Sequence[str | Path] = (),
    tokenizer: str = "words",
    vocabulary: Vocabulary | None = None,
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
        ``dataset_*.json``, CSV or ``{image: [captions]}`` JSON file, a JSON list or JSON lines of
        objects, or several of them; the format is recognized by the content.
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
        ``*trainImages.txt``, ``*devImages.txt`` and ``*testImages.txt`` beside it; else the split
        that the name of the file mentions in whole words.  Where nothing names a split, images are
        divided by ``shares``; where some images name theirs, the others are in train.
    split_of
        ``{"captions_a.json": "train", …}``: the split of all images of a file, whatever it says;
        ``"shares"`` for a file whose name is not to be taken for a split.
    shares, seed, groups
        Exact shares of train, dev and test where nothing names a split, and the seed of the
        division, which else depends on the images' names alone; images for whose names the regular
        expression ``groups`` finds the same text stay together.  See
        :func:`~dlmie.data.splits.divide`.
    format
        ``"flickr"``, ``"coco"``, ``"karpathy"``, ``"csv"``, ``"list"`` or ``"mapping"`` where the
        source is not recognized.
    boxes
        Files that say what is where in the images, as COCO's ``instances_*.json``: see
        :func:`~dlmie.data.captions.boxes.add_boxes`.
    encoding
        Of the captions file; default: UTF-8, or UTF-16 and UTF-32 where its first bytes say so.
    image_column, caption_columns, group_column
        Columns of a table, or keys of objects, where their names are not the usual ones; numbers
        from 1 for a table without a header.  Images of one group stay together.
    tokenizer
        See :func:`~dlmie.data.captions.tokenizers.tokenize`.
    vocabulary
        That of a captioner which is to be trained further on this data; words it lacks are read as
        ``<unk>``.  Default: the words of the training captions.
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
    sources = [source] if isinstance(source, (str, Path)) else source
    lists = [part for part in (splits or {}).values() if isinstance(part, (str, Path))]
    Outputs([*sources, *lists]).refuse_inputs(to)
    listing = formats.read(
        source,
        images=images,
        splits=splits,
        split_of=split_of,
        shares=shares,
        seed=seed,
        groups=groups,
        format=format,
        reading=Reading(encoding, image_column, tuple(caption_columns), group_column),
    )
    if missing := formats.no_training_image(listing):
        raise DataError(missing)
    records, problems = listing.records, listing.problems
    if boxes:
        records, more = add_boxes(records, boxes)
        problems = [*problems, *more]
    path = write_captions(
        records,
        to,
        size=size,
        min_count=min_count,
        max_size=max_size,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        store=store,
        strict=strict,
        overwrite=overwrite,
        source=listing.source,
        problems=problems,
        notes=listing.notes,
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
            check_document(self.header, _HEADER, self.path)
            self.size: int = self.header["size"]
            self.hash: str = self.header["hash"]
            self.splits: list[str] = list(self.header["splits"])
            words = read_texts(self._file["vocabulary"])
            # Files of dlmie 0.1.0 do not name the contract of their tokenizer: it was the first.
            contract = self.header.get("tokenizer_contract", 1)
            self.vocabulary = Vocabulary(words, self.header["tokenizer"], contract)
        self.folder = Path(images or self.header.get("folder") or ".")
        self._splits: dict[str, Split] = {}

    @property
    def names(self) -> list[str]:
        """What the images are called, split after split."""
        return [name for split in self for name in split.names]

    def __getitem__(self, name: str) -> Split:
        asked, name = name, name_of_split(name, self.splits)
        if name not in self.splits:
            raise DataError(f"{self.path}: has no split {asked!r}; it has {', '.join(self.splits)}")
        if name not in self._splits:
            self._splits[name] = Split(self, name)
        return self._splits[name]

    def __contains__(self, name: object) -> bool:
        return name_of_split(name, self.splits) in self.splits

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
