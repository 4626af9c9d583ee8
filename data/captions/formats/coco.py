"""COCO ``captions_*.json``: a list of images and a list of annotations that name their image."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source

NAME = "coco"


def matches(source: Source) -> bool:
    """Recognise ``{"images": […], "annotations": [{"caption": …}, …]}``."""
    document = source.document
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        return False
    annotations = document.get("annotations")
    return isinstance(annotations, list) and any(
        isinstance(annotation, dict) and "caption" in annotation for annotation in annotations[:50]
    )


def read(source: Source, problems: list[str]) -> Iterator[Entry]:
    """Give one entry an image; the split is the one that the file's own name mentions."""
    where = source.path.name
    named = re.search(r"(train|val|dev|test)(?=[^a-z]|$)", where.lower())
    split = named.group(1) if named else None
    entries: dict[object, Entry] = {}
    for place, image in enumerate(source.document["images"]):
        try:
            number, name = int(image["id"]), image["file_name"]
        except (TypeError, KeyError, ValueError):
            problems.append(f"{where}: images[{place}] has no 'id' and 'file_name'")
            continue
        if not isinstance(name, str) or not name:
            problems.append(f"{where}: images[{place}] has the file name {name!a}")
        elif number in entries:
            problems.append(f"{where}: images[{place}] has the id {number} of an earlier one")
        else:
            folder = re.search(r"(train|val|test)\d{4}", name)  # as COCO's own archives unpack
            entries[number] = Entry(
                name, [], split, folder=folder.group() if folder else None, image_id=number
            )
    for place, annotation in enumerate(source.document["annotations"]):
        try:
            number, caption = int(annotation["image_id"]), annotation["caption"]
        except (TypeError, KeyError, ValueError):
            problems.append(f"{where}: annotations[{place}] has no 'image_id' and 'caption'")
            continue
        if number in entries:
            entries[number].captions.append(caption)
        else:
            problems.append(f"{where}: annotations[{place}] is of the unknown image {number}")
    yield from entries.values()
