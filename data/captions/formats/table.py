"""CSV and its kin: one row per caption, or one row per image with several caption columns.

With a header the columns are found by their names; without one, the column whose cells are names of
images is the image, and of the others those that hold sentences are the captions.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from dlmie.data.captions.formats.columns import (
    Columns,
    find_columns,
    is_caption_name,
    read_rows,
)
from dlmie.data.captions.formats.dialect import SEPARATORS, Dialect, find_dialect, read_table
from dlmie.data.captions.formats.source import Entry, Source
from dlmie.data.images import is_image_name
from dlmie.data.splits import SPLITS, resolve_split
from dlmie.errors import DataError

NAME = "csv"
_SAMPLE = 50  # rows that are looked at to recognize a table


@dataclass(frozen=True)
class _Layout:
    separator: str
    names: list[str]  # of all columns
    columns: Columns
    start: int  # the first line of the data, counted from 0


def matches(source: Source) -> bool:
    """Recognize a file whose first row names the columns or holds an image's name."""
    return bool(source.text.strip()) and source.document is None and _layout(source) is not None


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the rows."""
    layout = _layout(source)
    if layout is None:
        source.problems.append(f"{source.where}: has no columns of images and captions")
        return
    key = layout.names.index(layout.columns.image or layout.columns.label or layout.names[0])
    dialect = find_dialect(source.lines[layout.start :], layout.separator, len(layout.names), key)
    yield from read_rows(source, _rows(source, layout, dialect), layout.columns)


def _rows(source: Source, layout: _Layout, dialect: Dialect) -> Iterator[tuple[str, dict]]:
    for number, cells, fault in read_table(source.lines, layout.start, dialect):
        where = f"{source.where}, line {number}"
        if fault is not None:
            source.problems.append(f"{where}: {fault}")
        elif any(cells):
            yield where, dict(zip(layout.names, cells, strict=True))


def column_names(source: Source) -> list[str]:
    """The cells of the first row, with the separator that makes the most of it."""
    _, first = _first_line(source)
    rows = [_split(first, separator) for separator in SEPARATORS]
    best = max(rows, key=len)
    return best if len(best) > 1 or source.path.suffix.lower() in (".csv", ".tsv") else []


def looks_like_table(source: Source) -> bool:
    """Whether lines that are no known table still are plainly one: to be refused as captions."""
    lines = [line for line in source.lines[:_SAMPLE] if line.strip()]
    if source.path.suffix.lower() in (".csv", ".tsv"):
        return True
    if not lines:
        return False
    if is_caption_name(lines[0]):  # a column of captions alone
        return True
    for separator in SEPARATORS:
        counts = {line.count(separator) for line in lines}
        # Commas are part of sentences: only where no first cell is one.
        sentences = separator == "," and any(" " in line.split(",")[0].strip() for line in lines)
        if len(lines) > 1 and len(counts) == 1 and 0 not in counts and not sentences:
            return True
    return False


def _first_line(source: Source) -> tuple[int, str]:
    """The first line with anything in it, and where; ``sep=;`` is Excel's word for itself."""
    for place, line in enumerate(source.lines):
        if line.strip() and not (line.startswith("sep=") and len(line) == 5):
            return place, line
    return 0, ""


def _split(line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in row]


def _layout(source: Source) -> _Layout | None:
    place, first = _first_line(source)
    misfits: list[tuple[int, DataError]] = []
    for separator in SEPARATORS:
        names = _unique(_split(first, separator))
        if len(names) < 2:
            continue
        try:
            columns = find_columns(names, source)
        except DataError as error:  # a chosen column is not there, with this separator
            misfits.append((len(names), error))
            continue
        if columns is not None:
            return _Layout(separator, names, columns, place + 1)
    layout = _without_header(source, place)
    if layout is None and misfits:
        raise max(misfits, key=lambda misfit: misfit[0])[1]
    return layout


def _unique(names: list[str]) -> list[str]:
    """Number names that stand more than once: ``caption``, ``caption_2``."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(f"{name}_{seen[name]}" if seen[name] > 1 else name)
    return result


def _without_header(source: Source, place: int) -> _Layout | None:
    """Columns of a table that begins with its data; they are called by their numbers, from 1."""
    lines = [line for line in source.lines[place : place + _SAMPLE] if line.strip()]
    chosen = [source.reading.image_column, *source.reading.caption_columns]
    for separator in SEPARATORS:
        rows = [_split(line, separator) for line in lines]
        width = len(rows[0])
        if width < 2:
            continue
        names = [str(number + 1) for number in range(width)]
        if any(chosen):
            known = all(name in (None, *names) for name in chosen)
            columns = find_columns(names, source) if known else None
        else:
            columns = _by_content([row for row in rows if len(row) == width], names)
        if columns is not None:
            return _Layout(separator, names, columns, place)
    return None


def _by_content(rows: list[list[str]], names: list[str]) -> Columns | None:
    cells = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    image = next((name for name in names if is_image_name(cells[name][0])), None)
    if image is None:
        return None
    others = [name for name in names if name != image]
    split = next((n for n in others if all(resolve_split(c) in SPLITS for c in cells[n])), None)
    others = [name for name in others if name != split]
    if not others:
        return None
    sentences = [n for n in others if sum(" " in cell for cell in cells[n]) * 2 > len(rows)]
    longest = max(others, key=lambda name: sum(map(len, cells[name])))
    return Columns(image, tuple(sentences or [longest]), split=split)
