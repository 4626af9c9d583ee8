"""Boxes of things in images, from files in COCO's ``instances_*.json`` form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.captions.categories import category_words
from dlmie.data.captions.records import Record
from dlmie.errors import DataError
from dlmie.files.documents import read_json

Objects = list[dict[str, Any]]


def add_boxes(
    records: Sequence[Record], files: Iterable[str | Path]
) -> tuple[list[Record], list[str]]:
    """Add to records what is where in their images.

    An image is found by its file's name, or by COCO's number where the records have it. One that
    no file lists keeps no objects: what it shows is not known. One that is listed without boxes
    shows none of the categories.

    Parameters
    ----------
    records
        Of any captions file.
    files
        JSON with ``images`` (``id``, ``file_name``, ``width``, ``height``), ``annotations``
        (``image_id``, ``category_id``, ``bbox`` as [x, y, width, height] in pixels) and
        ``categories`` (``id``, ``name``). Crowds (``iscrowd``) count like single things.

    Returns
    -------
    records, problems
        The records with their objects; one line for each annotation that cannot be used.

    Raises
    ------
    DataError
        A file is missing or of another form, or none of the images is among the records.
    """
    known: dict[str, Objects] = {}
    problems: list[str] = []
    paths = [Path(path) for path in files]
    for path in paths:
        known |= _read(path, problems)
    found = [(record, _objects_of(record, known)) for record in records]
    if not any(objects is not None for _, objects in found):
        names = ", ".join(path.name for path in paths)
        raise DataError(f"{names}: lists none of the images that have captions")
    with_objects = [
        record if objects is None else replace(record, objects=objects) for record, objects in found
    ]
    return with_objects, problems


def covered(boxes: Sequence[Sequence[float]], grid: tuple[int, int]) -> np.ndarray:
    """The share of each cell of a grid that lies in the union of boxes.

    Parameters
    ----------
    boxes
        Each [top, left, bottom, right], fractions of the image.
    grid
        Rows and columns.

    Returns
    -------
    numpy.ndarray
        (rows, columns), from 0 to 1.

    Examples
    --------
    >>> covered([[0.0, 0.0, 1.0, 0.25], [0.0, 0.0, 0.5, 0.5]], (2, 2))
    array([[1. , 0. ],
           [0.5, 0. ]])
    """
    box = np.clip(np.asarray(boxes, dtype=float).reshape(-1, 4), 0, 1)
    # Every edge of a box or a cell cuts the image: what lies between two cuts is in or out.
    cuts = [
        np.unique(np.concatenate([box[:, axis], box[:, axis + 2], np.linspace(0, 1, n + 1)]))
        for axis, n in enumerate(grid)
    ]
    middles = [(cut[1:] + cut[:-1]) / 2 for cut in cuts]
    within = [  # (boxes, pieces along the axis)
        (box[:, axis, None] < middle) & (middle < box[:, axis + 2, None])
        for axis, middle in enumerate(middles)
    ]
    inside = within[0].T @ within[1]  # (pieces, pieces), true where any box is
    rows, columns = (
        np.minimum((middle * n).astype(int), n - 1) for middle, n in zip(middles, grid, strict=True)
    )
    result = np.zeros(grid)
    area = inside * np.outer(np.diff(cuts[0]), np.diff(cuts[1]))
    np.add.at(result, (rows[:, None], columns[None, :]), area)
    return result * grid[0] * grid[1]


def _objects_of(record: Record, known: Mapping[str, Objects]) -> Objects | None:
    names = (record.name, Path(record.name).name, f"#{record.image_id}")
    return next((known[name] for name in names if name in known), None)


def _read(path: Path, problems: list[str]) -> dict[str, Objects]:
    """Things by the name of their image, and by ``#`` and its number."""
    document = _load(path)
    categories = {
        number: name
        for entry in document["categories"]
        for number, name in [_pair(entry, "id", "name")]
    }
    sizes: dict[Any, tuple[float, float]] = {}
    objects: dict[Any, Objects] = {}
    result: dict[str, Objects] = {}
    for place, image in enumerate(document["images"]):
        number, name = _pair(image, "id", "file_name")
        width, height = (_number(value) for value in _pair(image, "width", "height"))
        if not isinstance(name, str) or not width or not height:
            problems.append(f"{path.name}: images[{place}] has no file_name, width and height")
            continue
        sizes[number] = width, height
        result[name] = result[f"#{number}"] = objects[number] = []
    for place, annotation in enumerate(document["annotations"]):
        number, category = _pair(annotation, "image_id", "category_id")
        box = annotation.get("bbox") if isinstance(annotation, dict) else None
        if number not in sizes or category not in categories:
            fault = "is of an unknown image or category"
        elif (edges := _edges(box, sizes[number])) is None:
            fault = f"has the box {str(box)[:60]}, not [x, y, width, height]"
        else:
            name = str(categories[category])
            words = category_words(name)
            objects[number].append({"name": name, "words": words, "box": edges})
            continue
        problems.append(f"{path.name}: annotations[{place}] {fault}")
    return result


def _load(path: Path) -> dict[str, list[Any]]:
    document = read_json(path)
    parts = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(
        isinstance(document.get(part), list) for part in parts
    ):
        raise DataError(
            f"{path}: is not a file of boxes; those of COCO (instances_*.json) have lists of "
            f"{', '.join(parts)}"
        )
    return document


def _pair(entry: Any, first: str, second: str) -> tuple[Any, Any]:
    """Two values of a JSON object, None for what is missing or cannot be a key."""
    values = entry if isinstance(entry, dict) else {}
    one, two = values.get(first), values.get(second)
    return _key(one), _key(two)


def _key(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _edges(box: Any, size: tuple[float, float]) -> list[float] | None:
    """[x, y, width, height] in pixels → [top, left, bottom, right] as fractions of the image."""
    try:
        x, y, wide, high = (float(value) for value in box)
    except (TypeError, ValueError):
        return None
    width, height = size
    edges = [y / height, x / width, (y + high) / height, (x + wide) / width]
    edges = [min(max(edge, 0.0), 1.0) for edge in edges]
    # NaN fails the comparisons, too.
    return edges if edges[0] < edges[2] and edges[1] < edges[3] else None
