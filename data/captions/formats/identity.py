"""Which image each entry of the captions files is about: the file found, not the name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlmie.data.captions.formats.assignment import File, merge
from dlmie.data.captions.formats.source import Entry
from dlmie.data.splits import names_of


@dataclass
class Image:
    """An image of a data set: its entry, whose it is, its file, and why it has none if so."""

    entry: Entry
    file: File
    path: Path
    problem: str | None


def identify(listed: Iterable[tuple[File, Entry]], problems: list[str]) -> dict[str, Image]:
    """Find the files of entries, and put together what is said of one file.

    Parameters
    ----------
    listed
        Entries with their captions files.
    problems
        Gets a line for each entry whose image was listed before.

    Returns
    -------
    dict[str, Image]
        By name, in the order of the entries.  Equal names of different files are told apart by the
        folders that these lie in.
    """
    images: dict[tuple[object, ...], Image] = {}
    for file, entry in listed:
        assert entry.name is not None
        hints = () if entry.split is None else names_of(entry.split)
        found = file.folder.find(entry.name, entry.folder, hints)
        # Without a file there is nothing but what it was called and why it was not found.
        identity = found.identity if found.problem is None else (str(found.path), found.problem)
        image = images.setdefault(identity, Image(entry, file, found.path, found.problem))
        if image.entry is not entry:
            merge(image.entry, entry, file.source.where, problems)
    return _told_apart(list(images.values()))


def _told_apart(images: list[Image]) -> dict[str, Image]:
    """Images by name; equal names get as many of the folders above as make them differ."""
    alike: dict[str, list[Image]] = {}
    for image in images:
        alike.setdefault(str(image.entry.name), []).append(image)
    for same in alike.values():
        if len(same) > 1:
            parts = [Path(os.path.abspath(image.path)).parts for image in same]
            length = 2
            while len({p[-length:] for p in parts}) < len({*parts}):
                length += 1
            for image, path in zip(same, parts, strict=True):
                image.entry.name = "/".join(path[-length:])
    return {str(image.entry.name): image for image in images}
