"""What a data set is before it is prepared: one record per image, from whatever file it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.captions.texts import caption_fault, fault
from dlmie.data.captions.tokenizers import tokenize
from dlmie.errors import DataError


@dataclass(frozen=True)
class Record:
    """One image with its captions.

    Attributes
    ----------
    name
        What the image is called in the data set; unique.
    image
        Its file, or a callable that renders it: any pixels that
        :func:`~dlmie.data.images.load_image` takes.
    captions
        The captions as people wrote them.
    split
        ``"train"``, ``"dev"``, ``"test"`` or another name.
    objects
        What is where in the image, if known: a list of ``{"name": "circle", "words": ["circle"],
        "attributes": ["small", "red"], "box": [top, left, bottom, right]}`` with the box in
        fractions of the image. ``words`` name the thing, ``attributes`` (which may be missing) are
        said of it beside its name.
    image_id
        What the data set's own files call the image (a number, in COCO), if anything.
    missing
        Why the image has no file, if it has none: one line for the list of what is left out.
    """

    name: str
    image: Path | Callable[[], np.ndarray]
    captions: list[str]
    split: str
    objects: list[dict[str, Any]] | None = None
    image_id: str | int | None = None
    missing: str | None = None


def clean(records: Iterable[Record], tokenizer: str = "words") -> tuple[list[Record], list[str]]:
    """Drop captions and records that cannot be used.

    Returns
    -------
    tuple[list[Record], list[str]]
        What is left, and one line for each thing dropped.

    Raises
    ------
    DataError
        If two records have the same name (their captions would be attributed to one image).
    """
    kept: list[Record] = []
    problems: list[str] = []
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            raise DataError(f"two records are called {record.name!r}; names must differ")
        seen.add(record.name)
        wrong = fault(record.name)
        if wrong or not record.split.replace("-", "_").isidentifier():
            problems.append(f"{record.name!a}: {wrong or f'not a split name: {record.split!r}'}")
            continue
        captions = []
        for number, caption in enumerate(record.captions):
            wrong = caption_fault(caption)
            if not wrong and not tokenize(caption, tokenizer):
                wrong = "has no words"
            if wrong:
                problems.append(f"{record.name}: caption {number + 1} {wrong}")
            else:
                captions.append(caption.strip())
        if captions:
            kept.append(replace(record, captions=captions))
        else:
            problems.append(f"{record.name}: has no usable caption; left out")
    return kept, problems
