"""Readers of the files that captioned images come in, one module a format.

A format is a module with ``NAME``, ``matches(source) -> bool``, which looks at the content, and
``read(source) -> Iterator[Entry]``, which appends one line to ``source.problems`` for each row it
cannot use.  To add a format, write such a module and list it in :func:`_known`.

What prepares a data set (:func:`read`) and what scores captions
(:mod:`dlmie.captioning.caption_files`) both read with :func:`read_entries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TypedDict

from dlmie.data.captions.formats.assignment import (
    File,
    Listing,
    by_file,
    describe,
    fill_splits,
    name_splits,
    no_training_image,
)
from dlmie.data.captions.formats.identity import identify
from dlmie.data.captions.formats.source import Entry, Reading, Source, names_in
from dlmie.data.captions.records import Record
from dlmie.data.images import ImageFolder
from dlmie.data.splits import SHARES, resolve_split
from dlmie.errors import DataError

__all__ = [
    "Choices",
    "Entry",
    "Listing",
    "Reading",
    "Source",
    "no_training_image",
    "read",
    "read_entries",
    "recognize",
    "unknown_format",
]


class Choices(TypedDict, total=False):
    """What :func:`read` may be told of a data set beside its files."""

    images: str | Path | None
    splits: Mapping[str, str | Path | Iterable[str]] | None
    split_of: Mapping[str, str] | None
    shares: Sequence[float]
    seed: int
    groups: str | None
    format: str | None
    reading: Reading | None


def read(
    source: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    splits: Mapping[str, str | Path | Iterable[str]] | None = None,
    split_of: Mapping[str, str] | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    groups: str | None = None,
    format: str | None = None,
    reading: Reading | None = None,
) -> Listing:
    """Read one captions file, or several, of any known format.

    Parameters
    ----------
    source, images, splits, split_of, shares, seed, groups, format
        See :func:`dlmie.data.captions.dataset.prepare`.
    reading
        What the files do not say themselves.

    Returns
    -------
    Listing
        One record per image, in the order of the files, and a line for every row that cannot be
        used.  A record whose image was not found says why.

    Raises
    ------
    DataError
        If a file is missing, its format is not recognized or nothing in it can be used.
    """
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(path) for path in source]
    if not paths:
        raise DataError("no captions file is named")
    if splits and split_of:
        raise DataError("give lists of images (splits) or the split of each file (split_of)")
    listing = Listing()
    reading = reading or Reading()
    files = [_open(path, images, format, reading) for path in paths]
    lists = {
        resolve_split(name) or name: _names(value, reading.encoding)
        for name, value in (splits or {}).items()
    }
    name_splits(files, lists, by_file(split_of or {}, paths), listing)
    named = []
    for file in files:
        listing.notes.extend(file.source.notes)
        named += [(file, entry) for entry in _named(file, listing.problems)]
    found = identify(named, listing.problems)
    entries = {name: image.entry for name, image in found.items()}
    home = {name: image.file for name, image in found.items()}
    fill_splits(entries, files, listing, shares, seed, groups)
    for name, image in found.items():
        assert image.entry.split is not None
        listing.records.append(
            Record(
                name=name,
                image=image.path,
                captions=image.entry.captions,
                split=image.entry.split,
                image_id=image.entry.image_id,
                missing=image.problem,
            )
        )
    listing.source["files"] = [describe(file, entries, home) for file in files]
    return listing


def recognize(source: Source, format: str | None = None) -> ModuleType | None:
    """Give the module of a file's format, by its name or else by the content; None if none fits.

    Raises
    ------
    DataError
        If there is no format of that name, or a column that was chosen is not in the file.
    """
    modules = _known()
    if format is not None:
        by_name = {module.NAME: module for module in modules}
        if format not in by_name:
            raise DataError(f"format {format!r} is not known; choose one of {', '.join(by_name)}")
        return by_name[format]
    return next((module for module in modules if module.matches(source)), None)


def read_entries(source: Source, module: ModuleType) -> list[Entry]:
    """Read all images of a file.

    Raises
    ------
    DataError
        If no row can be used.
    """
    entries = list(module.read(source))
    if not entries:
        detail = f" ({source.problems[0]})" if source.problems else ""
        raise DataError(f"{source.path}: no row can be used{detail}")
    return entries


def unknown_format(source: Source) -> DataError:
    """The error of a file that no format fits: with its columns, if it has any."""
    from dlmie.data.captions.formats import objects, table

    names = objects.column_names(source) if source.document else table.column_names(source)
    if source.document is None and not table.looks_like_table(source):
        names = []
    if names:
        return DataError(
            f"{source.path}: which columns hold images and captions? It has "
            f"{', '.join(name[:40] for name in names[:20])}; choose with --image-column and "
            "--caption-column"
        )
    return DataError(
        f"{source.path}: is none of the known formats (Flickr .token.txt, COCO captions JSON, "
        "Karpathy dataset JSON, CSV, JSON lists or lines of objects, {image: [captions]} JSON)"
    )


def _known() -> tuple[ModuleType, ...]:
    from dlmie.data.captions.formats import coco, flickr, karpathy, mapping, objects, table

    return (flickr, coco, karpathy, objects, mapping, table)  # the table accepts the most: last


def _open(path: Path, images: str | Path | None, format: str | None, reading: Reading) -> File:
    source = Source(path, reading)
    if not source.text.strip():
        raise DataError(f"{path}: the file is empty")
    module = recognize(source, format)
    if module is None:
        raise unknown_format(source)
    entries = read_entries(source, module)
    return File(source, module, ImageFolder(path.parent, images), entries)


def _names(value: str | Path | Iterable[str], encoding: str | None) -> list[str]:
    """Give the image names of a split: those of a list file, one per line, or as they are."""
    return names_in(Path(value), encoding) if isinstance(value, (str, Path)) else list(value)


def _named(file: File, problems: list[str]) -> list[Entry]:
    """The entries that name a file of an image; the others become problems."""
    result = []
    problems.extend(file.source.problems)
    for entry in file.entries:
        if entry.name is None:
            if file.module.NAME == "coco" and file.source.document.get("images"):
                problems.append(
                    f"{file.source.where}: the image {entry.image_id} has no 'file_name'"
                )
                continue
            entry.name = str(entry.image_id)
        result.append(entry)
    return result
