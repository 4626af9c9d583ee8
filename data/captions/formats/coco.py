"""COCO ``captions_*.json``: a list of images and a list of annotations that name their image.

VizWiz captions come so, too; those that its checkers rejected are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source, is_rejected, label_of
from dlmie.data.captions.texts import captions_in

NAME = "coco"


def matches(source: Source) -> bool:
    """Recognize ``{"images": […], "annotations": [{"caption": …}, …]}``; images may be missing."""
    document = source.document
    if not isinstance(document, dict) or not isinstance(document.get("images", []), list):
        return False
    annotations = document.get("annotations")
    return isinstance(annotations, list) and any(
        isinstance(annotation, dict) and "caption" in annotation for annotation in annotations[:50]
    )


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image; one that only annotations name has no file name."""
    entries = _images(source)
    listed = bool(entries)
    rejected = 0
    for place, annotation in enumerate(source.document["annotations"]):
        where = f"{source.where}: annotations[{place}]"
        image = label_of(annotation.get("image_id")) if isinstance(annotation, dict) else None
        if image is None or "caption" not in annotation:
            source.problems.append(f"{where} has no 'image_id' and 'caption'")
        elif str(image) not in entries and listed:
            hint = _alike(str(image), entries)
            source.problems.append(f"{where} is of the unknown image {image}{hint}")
        elif is_rejected(annotation):
            rejected += 1
        else:
            entry = entries.setdefault(str(image), Entry(None, [], image_id=image))
            entry.captions.extend(captions_in(annotation["caption"]))
    if rejected:
        source.notes.append(f"{source.where}: {rejected:,} rejected captions were left out")
    yield from entries.values()


def _images(source: Source) -> dict[str, Entry]:
    """The images by their ids as text."""
    entries: dict[str, Entry] = {}
    for place, image in enumerate(source.document.get("images", [])):
        where = f"{source.where}: images[{place}]"
        known = label_of(image.get("id")) if isinstance(image, dict) else None
        if known is None:
            source.problems.append(f"{where} has no 'id' and 'file_name'")
            continue
        name = image.get("file_name")
        if name is not None and (not isinstance(name, str) or not name):
            source.problems.append(f"{where} has the file name {name!a}")
        elif str(known) in entries:
            source.problems.append(f"{where} has the id {known} of an earlier one")
        else:
            # As COCO's own archives unpack.
            folder = re.search(r"(train|val|test)\d{4}", name or "")
            entries[str(known)] = Entry(
                name, [], folder=folder.group() if folder else None, image_id=known
            )
    return entries


def _alike(label: str, entries: dict[str, Entry]) -> str:
    """A hint where an id differs from another one by zeros before it."""
    same = next((name for name in entries if name.lstrip("0") == label.lstrip("0")), None)
    return f" (there is {same}: ids must be written alike)" if same else ""
