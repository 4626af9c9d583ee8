"""Rows with named columns to images with captions: for tables and for lists of JSON objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dlmie.data.captions.formats.source import Entry, Label, Source, is_rejected, label_of
from dlmie.data.captions.texts import captions_in
from dlmie.errors import DataError

_IMAGE = (
    *("image", "image_name", "image_path", "image_file", "image_filename", "file", "file_name"),
    *("filename", "filepath", "file_path", "path", "img", "img_name", "img_path", "name", "photo"),
)
_ID = ("image_id", "imageid", "img_id", "cocoid")
_CAPTION = (
    *("caption", "captions", "comment", "comments", "text", "texts", "description"),
    *("descriptions", "sentence", "sentences", "reference", "references"),
)
_SPLIT = ("split", "set", "subset", "partition")


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; names as the file has them.

    Attributes
    ----------
    image
        The file of the image; None if there is only its label.
    captions
        One or more.
    label, split, group, rank
        Where there are such columns.
    """

    image: str | None
    captions: tuple[str, ...]
    label: str | None = None
    split: str | None = None
    group: str | None = None
    rank: str | None = None


def find_columns(names: Sequence[str], source: Source) -> Columns | None:
    """Choose columns by their names, or as they are chosen in ``source.reading``.

    Returns
    -------
    Columns or None
        None if no column is known to hold images, or none captions.

    Raises
    ------
    DataError
        If a chosen column is not there.
    """
    reading = source.reading
    plain = {_plain(name): name for name in reversed(names)}

    def first(known: Iterable[str]) -> str | None:
        return next((plain[name] for name in known if name in plain), None)

    label = first(_ID)
    chosen = reading.image_column
    image = first(_IMAGE) if chosen is None else _chosen(chosen, names, plain, source)
    if image is None and label is None:
        label = first(("id",))  # the number of a row, where anything else tells the images apart
    if reading.caption_columns:
        captions = [_chosen(name, names, plain, source) for name in reading.caption_columns]
    else:
        captions = [name for name in names if is_caption_name(name) and name != image]
    group = reading.group_column
    if (image is None and label is None) or not captions:
        return None
    return Columns(
        image,
        tuple(captions),
        label if label not in (image, *captions) else None,
        first(_SPLIT),
        None if group is None else _chosen(group, names, plain, source),
        first(("rank",)),
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.strip().casefold()).strip("_")


def is_caption_name(name: str) -> bool:
    """Whether a column of this name holds captions: ``caption``, ``Comment 2``, …"""
    return re.sub(r"_?\d+$", "", _plain(name)) in _CAPTION


def _chosen(name: str, names: Sequence[str], plain: Mapping[str, str], source: Source) -> str:
    if name in names:
        return name
    if _plain(name) in plain:
        return plain[_plain(name)]
    raise DataError(f"{source.path}: has no column {name!r}; it has {', '.join(names)}")


def read_rows(
    source: Source, rows: Iterable[tuple[str, Mapping[str, object]]], columns: Columns
) -> Iterator[Entry]:
    """Give one entry an image, captions in the order of the rows.

    Parameters
    ----------
    source
        Gets a line for every row that cannot be used.
    rows
        Where each row stands, for messages, and its values by column.
    columns
        Which of them hold what.
    """
    entries: dict[str, Entry] = {}
    rejected = 0
    for where, row in rows:
        if is_rejected(row):
            rejected += 1
            continue
        if source.reading.best_only and not _is_best(row, columns):
            continue
        label = label_of(row.get(columns.label)) if columns.label else None
        name = _name(row, columns, label)
        if name is None:
            source.problems.append(f"{where}: names no image")
            continue
        values = [row[column] for column in columns.captions if column in row]
        if not values:
            if "error" in row:  # what dlmie caption says of an image that it could not read
                source.notes.append(f"{where}: {name} has no caption but an error; left out")
            else:
                source.problems.append(f"{where}: has no {' or '.join(columns.captions)}")
            continue
        captions = [caption for value in values for caption in captions_in(value)]
        if len(columns.captions) > 1:  # an image may have fewer captions than there are columns
            captions = [caption for caption in captions if caption != ""]
        split, group = _text(row, columns.split), _text(row, columns.group)
        entry = entries.setdefault(name, Entry(name, [], split, image_id=label, group=group))
        if entry.split != split:
            source.problems.append(
                f"{where}: {name} is in {entry.split!r} and {split!r}; the first counts"
            )
        entry.captions.extend(captions)
    if rejected:
        source.notes.append(f"{source.where}: {rejected:,} rejected captions were left out")
    yield from entries.values()


def _is_best(row: Mapping[str, object], columns: Columns) -> bool:
    return columns.rank is None or str(row.get(columns.rank, 1)).strip() in ("", "1", "1.0")


def _name(row: Mapping[str, object], columns: Columns, label: Label | None) -> str | None:
    if columns.image is None:
        return None if label is None else str(label)
    name = label_of(row.get(columns.image))
    return None if name is None else str(name)


def _text(row: Mapping[str, object], column: str | None) -> str | None:
    value = None if column is None else row.get(column)
    return None if value is None else str(value).strip() or None
