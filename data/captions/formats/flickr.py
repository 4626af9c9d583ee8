"""Flickr8k and Flickr30k: ``file#k<TAB>caption`` lines and one list of images for each split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from dlmie.data.captions.formats.source import Entry, Source, names_in
from dlmie.data.captions.texts import captions_in
from dlmie.data.splits import in_order, splits_in_name
from dlmie.errors import DataError

NAME = "flickr"
_LINE = re.compile(r"([^\t]+)#(\d+)\t(.*)")


def matches(source: Source) -> bool:
    """Recognize the file by its first lines: most must look like ``file#k<TAB>caption``."""
    lines = [line for line in source.lines[:50] if line.strip()]
    return sum(bool(_LINE.fullmatch(line)) for line in lines) * 2 > len(lines)


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the file."""
    entries: dict[str, Entry] = {}
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(source.lines, 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        where = f"{source.where}, line {number}"
        if found is None:
            source.problems.append(f"{where}: is not 'file#k<TAB>caption': {line[:60]!a}")
            continue
        name, place, caption = found.groups()
        if (name, place) in seen:
            source.problems.append(f"{where}: {name}#{place} was given before")
            continue
        seen.add((name, place))
        entries.setdefault(name, Entry(name, [])).captions.extend(captions_in(caption))
    yield from entries.values()


def find_splits(source: Source) -> dict[str, list[str]]:
    """Read the lists that lie beside the file: ``*trainImages.txt``, ``*devImages.txt``, ….

    Raises
    ------
    DataError
        If there are two for the same split, or one cannot be read.
    """
    files: dict[str, Path] = {}
    for path in sorted(source.path.parent.glob("*[iI]mages.txt")):
        found = splits_in_name(path.stem)
        if len(found) != 1:
            continue
        (split,) = found
        other = files.setdefault(split, path)
        if other != path:
            raise DataError(
                f"{other} and {path.name} both list the {split} images: say which one with splits="
            )
    return {split: names_in(files[split], source.reading.encoding) for split in in_order(files)}
