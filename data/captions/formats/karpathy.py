"""Karpathy's ``dataset_*.json`` (Flickr8k, Flickr30k, COCO): images with sentences and a split."""

from __future__ import annotations

from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source

NAME = "karpathy"


def matches(source: Source) -> bool:
    """Recognise ``{"images": [{"sentences": […], …}, …]}``."""
    document = source.document
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and any(
        isinstance(image, dict) and "sentences" in image for image in images[:10]
    )


def read(source: Source, problems: list[str]) -> Iterator[Entry]:
    """Give one entry an image; its captions are the raw sentences."""
    where = source.path.name
    for place, image in enumerate(source.document["images"]):
        try:
            name, sentences = image["filename"], image["sentences"]
            captions = [sentence["raw"] for sentence in sentences]
        except (TypeError, KeyError):
            problems.append(f"{where}: images[{place}] has no 'filename' and raw 'sentences'")
            continue
        number, split, folder = image.get("cocoid"), image.get("split"), image.get("filepath")
        if not isinstance(name, str) or not name:
            problems.append(f"{where}: images[{place}] has the file name {name!a}")
            continue
        yield Entry(
            name,
            captions,
            split if isinstance(split, str) else None,
            folder if isinstance(folder, str) else None,
            number if isinstance(number, int) else None,
        )
