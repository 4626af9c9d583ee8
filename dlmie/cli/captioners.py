"""Which captioner a command means: named before the images, or the one that comes with dlmie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dlmie.data.images import find_images, is_image_name
from dlmie.errors import DataError


def split_names(model: str) -> list[str]:
    """``a,b`` → two models; a name that exists with its comma stays one."""
    if Path(model).exists():
        return [model]
    return [name for name in model.split(",") if name] or [model]


def captioner_and_images(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The captioners and the images that ``[MODEL] IMAGES…`` name.

    The first word is a model unless it is an image, a folder of images, or alone.

    Raises
    ------
    click.UsageError
        A captioner is named, but no image.

    Examples
    --------
    >>> captioner_and_images(["photo.jpg"])
    (['flickr8k-coco'], ['photo.jpg'])
    >>> captioner_and_images(["runs/sat", "photo.jpg"])
    (['runs/sat'], ['photo.jpg'])
    """
    from dlmie.captioning.captioner import DEFAULT, SHIPPED
    from dlmie.training.folders import holds_run

    first, *others = words
    names = split_names(first)
    if not others:
        if all(name in SHIPPED or holds_run(Path(name)) for name in names):
            folder = (
                f" (the folder is ./{first})" if first in SHIPPED and Path(first).exists() else ""
            )
            raise click.UsageError(f"name the images after {first}{folder}")
        return [DEFAULT], [first]
    if first not in SHIPPED and _is_image(first):
        return [DEFAULT], list(words)
    for word in others:
        if holds_run(Path(word)) and not _holds_images(Path(word)):
            raise click.UsageError(
                f"{word} is a run, not an image; captioners that decide together have commas "
                f"between them: {first},{word}"
            )
    return names, others


def _is_image(word: str) -> bool:
    from dlmie.training.folders import holds_run

    path = Path(word)
    if word == "-" or is_image_name(path.name):
        return True
    return path.is_dir() and not holds_run(path) and _holds_images(path)


def _holds_images(folder: Path) -> bool:
    try:
        return bool(find_images([folder]))
    except DataError:  # no image in this folder
        return False
