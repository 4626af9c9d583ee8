"""Karpathy's ``dataset_*.json`` (Flickr8k, Flickr30k, COCO): images with sentences and a split."""

from __future__ import annotations

from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source, label_of
from dlmie.data.captions.texts import captions_in

NAME = "karpathy"


def matches(source: Source) -> bool:
    """Recognize ``{"images": [{"sentences": […], …}, …]}``."""
    document = source.document
    images = document.get("images") if isinstance(document, dict) else None
    return isinstance(images, list) and any(
        isinstance(image, dict) and "sentences" in image for image in images[:10]
    )


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image; its captions are the raw sentences."""
    for place, image in enumerate(source.document["images"]):
        where = f"{source.where}: images[{place}]"
        try:
            name, sentences = image["filename"], image["sentences"]
            captions = [text for sentence in sentences for text in captions_in(sentence["raw"])]
        except (TypeError, KeyError):
            source.problems.append(f"{where} has no 'filename' and raw 'sentences'")
            continue
        if not isinstance(name, str) or not name:
            source.problems.append(f"{where} has the file name {name!a}")
            continue
        split, folder = image.get("split"), image.get("filepath")
        yield Entry(
            name,
            captions,
            split if isinstance(split, str) else None,
            folder if isinstance(folder, str) else None,
            label_of(image.get("cocoid")),
        )
