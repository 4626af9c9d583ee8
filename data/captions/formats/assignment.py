"""Which split each image of the captions files goes to, and the account of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dlmie.data.captions.formats.source import Entry, Source
from dlmie.data.captions.records import Record
from dlmie.data.images import ImageFolder, form_of
from dlmie.data.splits import SPLITS, divide, in_order, resolve_split, splits_in_name
from dlmie.errors import DataError

#: What ``split_of`` says of a file whose name is not to be taken for a split.
BY_SHARES = "shares"

#: How :func:`describe` says that a file's name named the split.
BY_NAME = "its name"


@dataclass
class Listing:
    """What was read.

    Attributes
    ----------
    records
        One per image.
    problems
        A line for each row that cannot be used.
    notes
        Lines about what was chosen, or left out on purpose.
    source
        Where all of it came from, as JSON values: under ``files``, for each file its name, format,
        images by split, and what named the splits.
    """

    records: list[Record] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)


@dataclass
class File:
    """One captions file while its images find their splits.

    Attributes
    ----------
    source, module, folder, entries
        The file, its format, where its images are, and what it lists.
    by
        What names the splits of its images; empty if nothing does.
    """

    source: Source
    module: ModuleType
    folder: ImageFolder
    entries: list[Entry]
    by: str = ""


def no_training_image(listing: Listing) -> str | None:
    """Say why there is nothing to train on, if no record is of the split train."""
    if any(record.split == "train" for record in listing.records):
        return None
    told = [
        f"{file['file']} is {split!r} by {file['by']}"
        for file in listing.source["files"]
        for split in file["splits"]
        if file["by"] == BY_NAME
    ]
    hint = ""
    if told:
        hint = f": {'; '.join(told)} (--split-of FILE=train overrides it, FILE={BY_SHARES} divides)"
    return f"no training image with captions{hint}"


def by_file(split_of: Mapping[str, str], paths: Sequence[Path]) -> dict[Path, str]:
    """The split of each file that is named, by its path, name or stem."""
    result = {}
    for key, split in split_of.items():
        found = [path for path in paths if key in (str(path), path.name, path.stem)]
        found = found or [path for path in paths if path.absolute() == Path(key).absolute()]
        if len(found) != 1:
            known = ", ".join(str(path) for path in paths)
            raise DataError(f"{key!r} is not one of the captions files: {known}")
        resolved = resolve_split(split)
        if resolved is None:
            raise DataError(f"{key}: {split!r} is not the name of a split; use train, dev or test")
        result[found[0]] = resolved
    return result


def name_splits(
    files: Sequence[File],
    lists: Mapping[str, list[str]],
    by_file: Mapping[Path, str],
    listing: Listing,
) -> None:
    """Set the split of each entry, as far as anything names it; None where nothing does."""
    listed: dict[str, str] = {}  # image → split, of all lists
    seen: set[str] = set()
    for file in files:
        found = lists
        if not lists and file.source.path not in by_file and hasattr(file.module, "find_splits"):
            found = file.module.find_splits(file.source)
        for entry in file.entries:
            entry.split = resolve_split(entry.split)
        if found:
            _enter(found, listed, listing.problems)
            _apply_lists(file, listed, seen, listing.notes)
        elif file.source.path in by_file:
            split = by_file[file.source.path]
            file.by = "" if split == BY_SHARES else "--split-of"
            for entry in file.entries:
                entry.split = None if split == BY_SHARES else split
        elif any(entry.split for entry in file.entries):
            file.by = "the file itself"
        else:
            _apply_file_name(file, len(files), listing.notes)
    for name, split in listed.items():
        if name not in seen:
            listing.problems.append(f"{name}: is in the list of {split!r} but has no captions")


def _enter(lists: Mapping[str, list[str]], listed: dict[str, str], problems: list[str]) -> None:
    """Add the names of split lists; a name in two lists stays in the first."""
    for split, names in lists.items():
        for name in names:
            if listed.setdefault(name, split) != split:
                problems.append(f"{name}: is in the lists of {listed[name]!r} and {split!r}")


class NameList:
    """Names that lists give to splits, met also where only their form differs.

    Parameters
    ----------
    splits
        Split by name, as listed.
    """

    def __init__(self, splits: Mapping[str, str]) -> None:
        self._splits = splits
        forms: dict[str, list[str]] = {}
        for name in splits:
            forms.setdefault(form_of(name), []).append(name)
        self._forms = {form: names[0] for form, names in forms.items() if len(names) == 1}

    def find(self, name: str) -> str | None:
        """The name as the lists have it, which may lack the suffix; None if it is in none."""
        stem = name.rpartition(".")[0]
        for listed in (name, stem):
            if listed in self._splits:
                return listed
        return self._forms.get(form_of(name)) or self._forms.get(form_of(stem))


def _apply_lists(file: File, listed: Mapping[str, str], seen: set[str], notes: list[str]) -> None:
    """Keep what is in a list: no other image is part of the data."""
    kept, names = [], NameList(listed)
    for entry in file.entries:
        key = names.find(entry.name or "")
        if key is not None:
            seen.add(key)
            entry.split = listed[key]
            kept.append(entry)
    if left := len(file.entries) - len(kept):
        notes.append(f"{file.source.where}: {left:,} images that no list names were left out")
    file.entries, file.by = kept, "lists of images"


def _apply_file_name(file: File, files: int, notes: list[str]) -> None:
    """Take the split that the file's name mentions, if it mentions one."""
    path = file.source.path
    found = splits_in_name(path.stem)
    if not found and files > 1 and path.stem.lower() == "metadata":
        found = splits_in_name(path.parent.name)  # train/metadata.jsonl, as Hugging Face has it
    if len(found) > 1:
        notes.append(
            f"{file.source.where}: its name mentions {' and '.join(sorted(found))}, so it names no "
            "split; say it with --split-of FILE=NAME"
        )
    elif found:
        file.by = BY_NAME
        for entry in file.entries:
            entry.split = next(iter(found))


def merge(first: Entry, second: Entry, where: str, problems: list[str]) -> None:
    """Add what a second entry says of the same image; of two splits the first counts."""
    also = "" if first.name == second.name else f", as {first.name},"
    problems.append(f"{where}: {second.name}{also} is listed more than once")
    first.captions.extend(second.captions)
    if None not in (first.split, second.split) and first.split != second.split:
        problems.append(
            f"{where}: {second.name} is in {first.split!r} and {second.split!r}; the first counts"
        )
    first.split = first.split or second.split
    first.group = first.group or second.group


def fill_splits(
    entries: Mapping[str, Entry],
    files: Sequence[File],
    listing: Listing,
    shares: Sequence[float],
    seed: int,
    groups: str | None,
) -> None:
    """Give a split to the images that have none: shares of all, or train where others name theirs.

    A division by shares beside splits that somebody chose would put images of theirs among others'.
    """
    without = [name for name, entry in entries.items() if entry.split is None]
    if without and len(without) == len(entries):
        chosen = divide(entries, shares=shares, seed=seed, groups=_groups(entries, groups))
        for name, split in chosen.items():
            entries[name].split = split
        for file in files:
            file.by = "shares"
        listing.source["shares"] = {"train, dev, test": [float(x) for x in shares], "seed": seed}
        return
    for name in without:
        entries[name].split = "train"
    if without:
        listing.notes.append(
            f"{len(without):,} images name no split and are in train, because "
            f"{len(entries) - len(without):,} others name theirs"
        )
    counts: dict[str, int] = {}
    for entry in entries.values():
        assert entry.split is not None
        counts[entry.split] = counts.get(entry.split, 0) + 1
    listing.notes.extend(
        f"the split {split!r} ({count:,} images) is none of {', '.join(SPLITS)}: it is kept under "
        "this name"
        for split, count in counts.items()
        if split not in SPLITS
    )


def _groups(entries: Mapping[str, Entry], pattern: str | None) -> dict[str, str]:
    """The group of each image that has one: from its column, or what the pattern finds."""
    result = {name: entry.group for name, entry in entries.items() if entry.group is not None}
    if pattern is None:
        return result
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"groups: {pattern!r} is not a regular expression ({error})") from None
    for name in entries:
        if found := compiled.search(name):
            result[name] = found.group(1 if compiled.groups else 0) or ""
    return result


def describe(file: File, entries: Mapping[str, Entry], home: Mapping[str, File]) -> dict[str, Any]:
    """One file as JSON values, with the images of each split."""
    counts: dict[str, int] = {}
    for name, entry in entries.items():
        if home[name] is file:
            assert entry.split is not None
            counts[entry.split] = counts.get(entry.split, 0) + 1
    return {
        "file": file.source.path.name,
        "format": file.module.NAME,
        "splits": {split: counts[split] for split in in_order(counts)},
        "by": file.by or "default",
    }
