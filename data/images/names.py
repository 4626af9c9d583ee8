"""Names of files that differ in form only: Unicode form, case, separators, a missing suffix."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from dlmie.data.images.archives import has_member, member_of, names_in_archive
from dlmie.data.images.formats import is_image_name

T = TypeVar("T")


def form_of(name: str) -> str:
    """What names have in common that differ in form only: Unicode form, case, separators."""
    folded = unicodedata.normalize("NFD", name.replace("\\", "/")).casefold()
    return unicodedata.normalize("NFC", folded)


class Listings:
    """What lies in folders and archives, by the form of the names; each is read once."""

    def __init__(self) -> None:
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._stems: dict[Path, dict[str, list[str]]] = {}

    def names(self, folder: Path) -> dict[str, list[str]]:
        """All names by their form; none where the folder cannot be read."""
        if folder not in self._names:
            try:
                archived = names_in_archive(folder)
                names = sorted(os.listdir(folder)) if archived is None else archived
            except (OSError, ValueError):
                names = []
            self._names[folder] = group_by_form(names, names)
        return self._names[folder]

    def stems(self, folder: Path) -> dict[str, list[str]]:
        """The names of images by the form of what stands before their suffix."""
        if folder not in self._stems:
            images = [n for same in self.names(folder).values() for n in same if is_image_name(n)]
            self._stems[folder] = group_by_form([Path(name).stem for name in images], images)
        return self._stems[folder]

    def same_form(
        self, start: Path, parts: Sequence[str], *, without_suffix: bool = False
    ) -> Iterator[Path]:
        """Files and folders below ``start`` whose path differs from ``parts`` in form only."""
        if not parts:
            yield start
            return
        first, *rest = parts
        if without_suffix and not rest:
            yield from (start / name for name in self.stems(start).get(form_of(first), ()))
            return
        same = self.names(start).get(form_of(first), [])
        for name in [first] if first in same or first == ".." else same:
            yield from self.same_form(start / name, rest, without_suffix=without_suffix)


def group_by_form(names: Sequence[str], values: Sequence[T]) -> dict[str, list[T]]:
    """Values by the form of the name of each."""
    groups: dict[str, list[T]] = {}
    for name, value in zip(names, values, strict=True):
        groups.setdefault(form_of(name), []).append(value)
    return groups


def list_files(paths: Sequence[Path]) -> str:
    """``several files: a/x.jpg, b/x.jpg and 4 more``"""
    shown = [str(path) for path in paths[:3]]
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"several files: {', '.join(shown)}{more}"


def is_file(path: Path) -> bool:
    """Whether a file is there, on the disk or in an archive; any name may be asked for."""
    try:
        return path.is_file() or has_member(path)
    except (OSError, ValueError):
        return False


def stamp_of(path: Path) -> str:
    """What changes when an image file does: length and time; in an archive, length and checksum.

    Raises
    ------
    OSError
        There is no such file.
    DataError
        The archive cannot be read or does not hold it.
    """
    member = member_of(path)
    if member is not None:
        return member.stamp
    status = path.stat()
    return f"{status.st_size}|{status.st_mtime_ns}"
