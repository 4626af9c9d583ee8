"""Readers of the files that captioned images come in, one module a format.

A format is a module with ``NAME``, ``matches(source) -> bool``, which looks at the content, and
``read(source, problems) -> Iterator[Entry]``, which appends one line to ``problems`` for each row
it cannot use.  To add a format, write such a module and list it in :func:`_known`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dlmie.data.captions.formats.source import Entry, ImageFolder, Source, names_in
from dlmie.data.captions.records import Record
from dlmie.errors import DataError

__all__ = ["Entry", "Listing", "Source", "read"]

#: Other names of splits, as files use them.
_SAME_SPLIT = {
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "development": "dev",
    "training": "train",
    "testing": "test",
    "restval": "train",  # Karpathy: the validation images that everybody trains on
}


@dataclass
class Listing:
    """What was read: the records, one line a problem, and where all of it came from (JSON)."""

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)


def read(
    source: str | Path | Sequence[str | Path],
    *,
    images: str | Path | None = None,
    splits: Mapping[str, str | Path | Iterable[str]] | None = None,
    format: str | None = None,
) -> Listing:
    """Read one captions file, or several, of any known format.

    Returns
    -------
    Listing
        One record an image, in the order of the files, and a line for every row that cannot be
        used.  Whether the images exist is not checked here.

    Raises
    ------
    DataError
        If a file is missing, its format is not recognised or nothing in it can be used.
    """
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(path) for path in source]
    if not paths:
        raise DataError("no captions file is named")
    listing = Listing()
    chosen = {name: _names(value) for name, value in (splits or {}).items()}
    used: list[dict[str, str]] = []
    entries: dict[str, Entry] = {}
    folders: dict[str, ImageFolder] = {}
    listed: dict[str, str] = {}  # image → split, of all lists
    seen: set[str] = set()
    for path in paths:
        found = Source(path)
        module = _recognise(found, format)
        used.append({"file": path.name, "format": module.NAME})
        folder = ImageFolder(path.parent, images)
        lists = chosen or (module.find_splits(found) if hasattr(module, "find_splits") else {})
        _enter(lists, listed, listing.problems)
        count = 0
        for entry in module.read(found, listing.problems):
            count += 1
            if lists:
                key = entry.name if entry.name in listed else entry.name.rpartition(".")[0]
                seen.add(key)
                entry.split = listed.get(key)
                if entry.split is None:
                    continue  # in no list: not part of the data
            first = entries.setdefault(entry.name, entry)
            if first is not entry:
                listing.problems.append(f"{path.name}: {entry.name} is listed more than once")
                first.captions.extend(entry.captions)
            folders.setdefault(entry.name, folder)
        if not count:
            detail = f" ({listing.problems[0]})" if listing.problems else ""
            raise DataError(f"{path}: no row can be used{detail}")
    for name, split in listed.items():
        if name not in seen:
            listing.problems.append(f"{name}: is in the list of {split!r} but has no captions")
    for entry in entries.values():
        split = entry.split or _split_by_hash(entry.name)
        listing.records.append(
            Record(
                name=entry.name,
                image=folders[entry.name].find(entry.folder, entry.name),
                captions=entry.captions,
                split=_SAME_SPLIT.get(split.lower(), split),
                image_id=entry.image_id,
            )
        )
    listing.source = {"files": used}
    return listing


def _known() -> tuple[ModuleType, ...]:
    from dlmie.data.captions.formats import coco, flickr, karpathy, mapping, table

    return (flickr, coco, karpathy, mapping, table)  # the table accepts the most: last


def _recognise(source: Source, name: str | None) -> ModuleType:
    modules = _known()
    if name is not None:
        by_name = {module.NAME: module for module in modules}
        if name not in by_name:
            raise DataError(f"format {name!r} is not known; choose one of {', '.join(by_name)}")
        return by_name[name]
    for module in modules:
        if module.matches(source):
            return module
    raise DataError(
        f"{source.path}: is none of the known formats (Flickr .token.txt, COCO captions JSON, "
        "Karpathy dataset JSON, CSV, {image: [captions]} JSON)"
    )


def _names(value: str | Path | Iterable[str]) -> list[str]:
    """Give the image names of a split: those of a list file, one a line, or as they are."""
    return names_in(Path(value)) if isinstance(value, (str, Path)) else list(value)


def _enter(lists: Mapping[str, list[str]], listed: dict[str, str], problems: list[str]) -> None:
    """Add the names of split lists; a name in two lists stays in the first."""
    for split, names in lists.items():
        for name in names:
            if listed.setdefault(name, split) != split:
                problems.append(f"{name}: is in the lists of {listed[name]!r} and {split!r}")


def _split_by_hash(name: str) -> str:
    """Choose a split that depends on nothing but the image's name: 80 / 10 / 10 percent."""
    share = int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "big")
    tenth = share * 10 >> 64  # 0..9
    return "train" if tenth < 8 else "dev" if tenth == 8 else "test"
