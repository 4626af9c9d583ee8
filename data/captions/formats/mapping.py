"""The simplest JSON: ``{"image.jpg": ["a caption", "another"], …}``; one may stand alone."""

from __future__ import annotations

from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source
from dlmie.data.captions.texts import captions_in

NAME = "mapping"


def matches(source: Source) -> bool:
    """Recognize an object most of whose values are texts or lists of texts."""
    document = source.document
    if not isinstance(document, dict) or not document:
        return False
    values = list(document.values())[:50]
    good = sum(isinstance(value, str) or _has_text(value) for value in values)
    return good * 2 > len(values)


def read(source: Source) -> Iterator[Entry]:
    """Give one entry an image."""
    document = source.document
    for name in dict.fromkeys(source.repeated):
        source.problems.append(
            f"{source.where}: {name!a} is given more than once; only its last value counts"
        )
    for name, value in document.items():
        if not name or not isinstance(value, (str, list, dict)):
            source.problems.append(f"{source.where}: {name!a} has no list of captions")
            continue
        yield Entry(name, captions_in(value))


def _has_text(value: object) -> bool:
    return isinstance(value, list) and (not value or any(isinstance(t, str) for t in value))
