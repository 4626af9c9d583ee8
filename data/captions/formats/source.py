"""What every reader of captions starts from: the file, and the folder of its images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlmie.data.images import SUFFIXES, find_images
from dlmie.errors import DataError

# Only these values of a JSON file are kept while it is parsed: the files of Karpathy hold every
# caption a second time in words, which would make them five times as large in memory.
_UNUSED = frozenset({"tokens", "imgid", "sentid", "sentids", "licenses", "coco_url", "flickr_url"})


@dataclass
class Entry:
    """One image of a captions file, before its file is looked up."""

    name: str
    captions: list[Any]
    split: str | None = None
    folder: str | None = None
    image_id: int | None = None


class Source:
    """A captions file that is read when needed, and its JSON parsed at most once.

    Raises
    ------
    DataError
        If it is missing, a folder or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name the captions file in it")
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        with open(path, "rb") as file:
            start = file.read(65536)
        if not start.strip():
            raise DataError(f"{path}: the file is empty")
        self.head = start.decode("utf-8-sig", "replace")

    @cached_property
    def document(self) -> Any:
        """The parsed JSON, or None if the file does not look like JSON."""
        if self.head.lstrip()[:1] not in ("{", "["):
            return None
        try:
            text = self.path.read_text("utf-8-sig")
            return json.loads(text, object_pairs_hook=self._keep)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: is not UTF-8 ({error})") from None
        except json.JSONDecodeError as error:
            raise DataError(
                f"{self.path}: is not valid JSON at line {error.lineno}, column {error.colno}: "
                f"{error.msg}"
            ) from None
        except RecursionError:
            raise DataError(f"{self.path}: is nested too deeply to be captions") from None

    @cached_property
    def repeated(self) -> list[str]:
        """Keys that the JSON file gives twice in one place, where only the last value counts."""
        return []

    def _keep(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in _UNUSED:
                continue
            if key in result:
                self.repeated.append(key)
            result[key] = value
        return result

    def lines(self) -> Iterator[tuple[int, str]]:
        """Give numbered lines; bytes that are not UTF-8 arrive as surrogates."""
        with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline=None) as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")


class ImageFolder:
    """Find image files by the names that captions files use."""

    #: Folders that usually hold the images beside a captions file.
    USUAL = ("", "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k-images")

    def __init__(self, beside: Path, images: str | Path | None) -> None:
        if images is not None and not Path(images).is_dir():
            raise DataError(f"{images}: no such folder of images")
        self.given = images is not None
        roots = [Path(images)] if images is not None else [beside / name for name in self.USUAL]
        self.roots = [root for root in roots if root.is_dir()]

    def find(self, folder: str | None, name: str) -> Path:
        """Give the file of an image; where there is none, the place where it was expected."""
        tried = [root / part / name for root in self.roots for part in (folder or "", "")]
        for path in tried:
            if path.is_file():
                return path
        return self._index.get(Path(name).name, tried[0])

    @cached_property
    def _index(self) -> dict[str, Path]:
        """All images below the given folder by their name; the first of equal ones counts."""
        if not self.given:  # do not walk through all that lies beside a captions file
            return {}
        try:
            found = find_images(self.roots)
        except DataError:
            return {}
        return {path.name: path for path in reversed(found)}


def looks_like_image(name: str) -> bool:
    """Tell whether a text is the name of an image file."""
    return Path(name.strip()).suffix.lower() in SUFFIXES


def names_in(path: Path) -> list[str]:
    """Read a list of images, one name a line.

    Raises
    ------
    DataError
        If it cannot be read or lists nothing.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this list of images cannot be read ({error})") from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: this list of images is empty")
    return names
