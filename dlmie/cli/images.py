"""Images as the command line names them: files, folders, and ``-`` for standard input."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from dlmie.data.images import ImageBytes, existing_path, find_images
from dlmie.errors import DataError

#: What stands for standard input.
STANDARD_INPUT = "-"

_LARGEST = 256_000_000  # bytes of an image on standard input


def find_source(word: str) -> Path | ImageBytes:
    """The one image that a word of a command line stands for.

    Raises
    ------
    DataError
        See :func:`~dlmie.data.images.existing_path`; or standard input holds no image.
    """
    return read_standard_input() if word == STANDARD_INPUT else existing_path(word)


def find_sources(words: Sequence[str]) -> list[Path | ImageBytes]:
    """The images that the words of a command line stand for, each once.

    Raises
    ------
    DataError
        See :func:`~dlmie.data.images.find_images`; or standard input holds no image.
    """
    found: dict[Path | ImageBytes, None] = {}
    for word in dict.fromkeys(words):
        there = [read_standard_input()] if word == STANDARD_INPUT else find_images([word])
        found.update(dict.fromkeys(there))
    return list(found)


def stem_of(image: str | Path | ImageBytes) -> str:
    """What a file that is made of an image is called after it."""
    return "stdin" if str(image) == STANDARD_INPUT else Path(str(image)).stem


def read_standard_input() -> ImageBytes:
    """The image file that is piped into the command.

    Raises
    ------
    DataError
        It is a terminal, empty, or endless.
    """
    if sys.stdin.isatty():
        raise DataError("standard input is a terminal: send an image into it, with < photo.jpg")
    content = sys.stdin.buffer.read(_LARGEST + 1)
    if not content:
        raise DataError("standard input is empty: send an image into it, with < photo.jpg")
    if len(content) > _LARGEST:
        raise DataError(f"standard input holds more than {_LARGEST // 10**6} MB: too much")
    return ImageBytes(content, STANDARD_INPUT)
