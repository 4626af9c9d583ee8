"""What every reader of captions starts from: the file, and the images it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from dlmie.errors import DataError
from dlmie.files.documents import decode, find_encoding, parse_json, read_bytes, read_text

# Only these values of a JSON file are kept while it is parsed: the files of Karpathy hold every
# caption per second time in words, which would make them five times as large in memory.
_UNUSED = frozenset({"tokens", "imgid", "sentid", "sentids", "licenses", "coco_url", "flickr_url"})


# The beginning of JSON, which no sentence in brackets has.
_JSON = re.compile(r"\s*(?:\{|\[\s*(?:[\"\[{\]\d-]|$))")

#: What a data set calls an image by in its own files: any text or number.
Label = str | int


@dataclass
class Entry:
    """One image of a captions file, before its file is looked up.

    Attributes
    ----------
    name
        The file of the image as the captions file names it; None where it only gives an id.
    captions
        What stands where the captions should, see :func:`~dlmie.data.captions.texts.captions_in`.
    split
        As the file names it.
    folder
        Where the image usually lies.
    image_id
        The data set's own label of the image.
    group
        Of images that belong together.
    """

    name: str | None
    captions: list[Any]
    split: str | None = None
    folder: str | None = None
    image_id: Label | None = None
    group: str | None = None


@dataclass(frozen=True)
class Reading:
    """How to read captions files where they do not say it themselves.

    Attributes
    ----------
    encoding
        Of the text; default: UTF-8, or what the file's first bytes say.
    image_column, caption_columns, group_column
        Columns of a table or keys of objects; or numbers from 1 of a table without a header.
    best_only
        Read the first of the ranked captions of an image, as ``dlmie caption`` writes them.
    """

    encoding: str | None = None
    image_column: str | None = None
    caption_columns: tuple[str, ...] = ()
    group_column: str | None = None
    best_only: bool = False


class Source:
    """A captions file that is read when needed, and its JSON parsed at most once.

    Attributes
    ----------
    path : Path
    reading : Reading
    problems : list[str]
        One line for each row that could not be used.
    notes : list[str]
        Lines about what was left out on purpose, or chosen.

    Raises
    ------
    DataError
        If it is missing, a folder or empty, or cannot be decoded.
    """

    def __init__(self, path: Path, reading: Reading | None = None) -> None:
        self.path, self.reading = path, reading or Reading()
        self.problems: list[str] = []
        self.notes: list[str] = []
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name the captions file in it")
        self._raw = read_bytes(path)
        if not self._raw:
            raise DataError(f"{path}: the file is empty")

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.path.name

    @cached_property
    def text(self) -> str:
        """The decoded text; in UTF-8, bytes that are not arrive as surrogates, row by row."""
        encoding = self.reading.encoding
        if encoding is None and find_encoding(self._raw).startswith("utf-8"):
            return decode(self._raw, self.path, "utf-8", errors="surrogateescape")
        return decode(self._raw, self.path, encoding)

    @property
    def strict_text(self) -> str:
        """The text, where a byte that is not in its encoding is an error of the whole file."""
        return decode(self._raw, self.path, self.reading.encoding)

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without their ends."""
        return self.text.removesuffix("\n").split("\n")

    @cached_property
    def document(self) -> Any:
        """The parsed JSON, a list for JSON lines; None if the file does not look like JSON."""
        if not _JSON.match(self.text):
            return None
        if self._has_json_lines():
            return self._read_json_lines()
        return parse_json(self.strict_text, self.path, pairs=self._keep)

    @cached_property
    def repeated(self) -> list[str]:
        """Keys that the JSON file gives twice in one place, where only the last value counts."""
        return []

    def _has_json_lines(self) -> bool:
        if self.path.suffix.lower() in (".jsonl", ".ndjson"):
            return True
        first, *more = islice((line for line in self.lines if line.strip()), 2)
        if not more or not more[0].lstrip().startswith("{"):
            return False
        try:
            return isinstance(parse_json(first, self.path), dict)
        except DataError:
            return False

    def _read_json_lines(self) -> list[Any]:
        result = []
        for number, line in enumerate(self.lines, 1):
            if not line.strip():
                continue
            try:
                result.append(parse_json(line, f"{self.where}, line {number}", pairs=self._keep))
            except DataError as error:
                self.problems.append(str(error))
        return result

    def _keep(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in _UNUSED:
                continue
            if key in result:
                self.repeated.append(key)
            result[key] = value
        return result


def label_of(value: object) -> Label | None:
    """Give the label that a value is: a text or a whole number, else None.

    Programs that keep numbers as floating point write 139 as 139.0.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        return value.strip() or None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_rejected(row: Mapping[str, object]) -> bool:
    """Whether a caption was rejected by those who checked it, as VizWiz marks them."""
    return str(row.get("is_rejected")).strip().casefold() in ("true", "1", "1.0", "yes")


def names_in(path: Path, encoding: str | None = None) -> list[str]:
    """Read a list of images, one name a line.

    Raises
    ------
    DataError
        If it cannot be read or lists nothing.
    """
    lines = read_text(path, encoding).split("\n")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"{path}: this list of images is empty")
    return names
