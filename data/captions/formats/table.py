"""CSV and its kin: one row a caption, or one row an image with several caption columns.

The separator is a comma, tab, semicolon or bar.  With a header the columns are found by their names
(see ``_IMAGE``, ``_CAPTION``, ``_SPLIT``); without one, the first column is the image and the last
the caption.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from dlmie.data.captions.formats.source import Entry, Source, looks_like_image

NAME = "csv"
_SEPARATORS = ",\t;|"
_IMAGE = (
    *("image", "image_name", "image_path", "image_file", "file", "file_name", "filename"),
    *("filepath", "path", "img", "name"),
)
_CAPTION = ("caption", "captions", "comment", "text", "description", "sentence")
_SPLIT = ("split", "set", "subset", "partition")


@dataclass
class _Columns:
    separator: str
    count: int
    image: int
    captions: list[int]
    split: int | None
    header: bool


def matches(source: Source) -> bool:
    """Recognise a file whose first row names the columns or begins with an image's name."""
    return source.document is None and _columns(source) is not None


def read(source: Source, problems: list[str]) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the rows."""
    columns = _columns(source)
    if columns is None:
        problems.append(f"{source.path.name}: has no columns of images and captions")
        return
    entries: dict[str, Entry] = {}
    lines = (line + "\n" for _, line in source.lines())
    rows = csv.reader(lines, delimiter=columns.separator, skipinitialspace=True)
    start = 0
    while True:
        start = rows.line_num + 1
        where = f"{source.path.name}, line {start}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            problems.append(f"{where}: cannot be read ({error}); the rest is left out")
            break
        if row is None:
            break
        if not any(cell.strip() for cell in row) or (columns.header and start == 1):
            continue
        if rows.line_num - start > 10:
            problems.append(f"{where}: a quotation mark is not closed")
            continue
        if len(row) != columns.count:
            problems.append(
                f"{where}: has {len(row)} columns, not {columns.count} (quote captions that hold "
                f"{columns.separator!r})"
            )
            continue
        name = row[columns.image].strip()
        if not name:
            problems.append(f"{where}: names no image")
            continue
        split = row[columns.split].strip() or None if columns.split is not None else None
        entry = entries.setdefault(name, Entry(name, [], split))
        if entry.split != split:
            problems.append(
                f"{where}: {name} is in {entry.split!r} and {split!r}; the first counts"
            )
        captions = [row[column].strip() for column in columns.captions]
        if len(captions) > 1:  # an image may have fewer captions than there are columns
            captions = [caption for caption in captions if caption]
        entry.captions.extend(captions)
    yield from entries.values()


def _columns(source: Source) -> _Columns | None:
    first = next((line for line in source.head.splitlines() if line.strip()), "")
    without_header = None
    for separator in _SEPARATORS:
        try:
            row = next(csv.reader([first], delimiter=separator, skipinitialspace=True))
        except csv.Error:
            continue
        names = [cell.strip().lower().replace(" ", "_") for cell in row]
        image = next((names.index(name) for name in _IMAGE if name in names), None)
        captions = [place for place, name in enumerate(names) if _is_caption(name)]
        split = next((names.index(name) for name in _SPLIT if name in names), None)
        if image is not None and captions:
            return _Columns(separator, len(row), image, captions, split, True)
        if without_header is None and len(row) > 1 and looks_like_image(row[0]):
            without_header = _Columns(separator, len(row), 0, [len(row) - 1], None, False)
    return without_header


def _is_caption(name: str) -> bool:
    stem, _, number = name.rpartition("_")
    return name in _CAPTION or (stem in _CAPTION and number.isdigit())
