"""Flickr8k and Flickr30k: ``file#k<TAB>caption`` lines and one list of images for each split."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source, names_in
from dlmie.errors import DataError

NAME = "flickr"
_LINE = re.compile(r"([^\t]+)#(\d+)\t(.*)")
_LISTS = {
    "train": ("*trainImages.txt",),
    "dev": ("*devImages.txt", "*valImages.txt"),
    "test": ("*testImages.txt",),
}


def matches(source: Source) -> bool:
    """Recognise the file by its first lines: most must look like ``file#k<TAB>caption``."""
    lines = [line for line in source.head.splitlines()[:50] if line.strip()]
    return sum(bool(_LINE.fullmatch(line)) for line in lines) * 2 > len(lines)


def read(source: Source, problems: list[str]) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the file."""
    entries: dict[str, Entry] = {}
    seen: set[tuple[str, str]] = set()
    for number, line in source.lines():
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        where = f"{source.path.name}, line {number}"
        if found is None:
            problems.append(f"{where}: is not 'file#k<TAB>caption': {line[:60]!a}")
            continue
        name, place, caption = found.groups()
        if (name, place) in seen:
            problems.append(f"{where}: {name}#{place} was given before")
            continue
        seen.add((name, place))
        entries.setdefault(name, Entry(name, [])).captions.append(caption)
    yield from entries.values()


def find_splits(source: Source) -> dict[str, list[str]]:
    """Read the split lists that lie beside the file, whatever their names begin with.

    Raises
    ------
    DataError
        If there are two for the same split, or one cannot be read.
    """
    result: dict[str, list[str]] = {}
    for split, patterns in _LISTS.items():
        files = sorted({path for pattern in patterns for path in source.path.parent.glob(pattern)})
        if len(files) > 1:
            raise DataError(
                f"{files[0]} and {files[1].name} both list the {split} images: "
                "say which one with splits="
            )
        for path in files:
            result[split] = names_in(path)
    return result
