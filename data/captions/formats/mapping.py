"""The simplest JSON: ``{"image.jpg": ["a caption", "another"], …}``; one may stand alone."""

from __future__ import annotations

from collections.abc import Iterator

from dlmie.data.captions.formats.source import Entry, Source

NAME = "mapping"


def matches(source: Source) -> bool:
    """Recognise an object most of whose values are texts or lists of texts."""
    document = source.document
    if not isinstance(document, dict) or not document:
        return False
    values = list(document.values())[:50]
    good = sum(isinstance(value, str) or _has_text(value) for value in values)
    return good * 2 > len(values)


def read(source: Source, problems: list[str]) -> Iterator[Entry]:
    """Give one entry an image."""
    where = source.path.name
    for name in dict.fromkeys(source.repeated):
        problems.append(f"{where}: {name!a} is given more than once; only its last value counts")
    for name, value in source.document.items():
        captions = [value] if isinstance(value, str) else value
        if not name or not isinstance(captions, list):
            problems.append(f"{where}: {name!a} has no list of captions")
            continue
        yield Entry(name, list(captions))


def _has_text(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(text, str) for text in value)
