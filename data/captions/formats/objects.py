"""A JSON list of objects, or JSON lines: one object per caption, or one per image.

So come the files of BLIP and LAVIS, ``metadata.jsonl`` of Hugging Face, COCO's results and what
``dlmie caption --json`` writes.  The keys are found by their names, as the columns of a table.
"""

from __future__ import annotations

from collections.abc import Iterator

from dlmie.data.captions.formats.columns import Columns, find_columns, read_rows
from dlmie.data.captions.formats.source import Entry, Source

NAME = "list"


def matches(source: Source) -> bool:
    """Recognize a list whose objects have keys for an image and a caption."""
    return _columns(source) is not None


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the objects."""
    columns = _columns(source)
    if columns is None:
        source.problems.append(f"{source.where}: is not a list of objects with images and captions")
        return
    rows = []
    for number, row in enumerate(source.document, 1):
        where = f"{source.where}, entry {number}"
        if isinstance(row, dict):
            rows.append((where, row))
        else:
            source.problems.append(f"{where}: is not an object but {row!a:.60}")
    yield from read_rows(source, rows, columns)


def column_names(source: Source) -> list[str]:
    """All keys of the first objects, in their order; none if the file is not a list of objects."""
    rows = source.document if isinstance(source.document, list) else []
    return list(dict.fromkeys(key for row in rows[:50] if isinstance(row, dict) for key in row))


def _columns(source: Source) -> Columns | None:
    names = column_names(source)
    return find_columns(names, source) if names else None
