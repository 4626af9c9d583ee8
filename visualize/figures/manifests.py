"""Manifests: what made a picture, as JSON beside it; enough to make the same picture again."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from dlmie.errors import DataError, OutputError
from dlmie.files import atomic
from dlmie.files.documents import read_json
from dlmie.files.outputs import MANIFEST, kind_of
from dlmie.files.schema import Key, check_document
from dlmie.typing import Json, JsonObject
from dlmie.visualize.figures.sources import ImageDescription

FORMAT = 1
SUFFIX = ".json"

_KEYS = {
    "picture": Key(str),
    "network": Key(dict),
    "images": Key(dict),
    "arguments": Key(dict),
    "results": Key(dict, required=False),
    "file": Key(str, required=False),
}


def make_manifest(
    picture: str,
    made_by: Mapping[str, object],
    arguments: Mapping[str, object],
    *,
    images: Mapping[str, ImageDescription | Sequence[ImageDescription]] | None = None,
    results: Mapping[str, object] | None = None,
) -> JsonObject:
    """The manifest of a picture.

    Parameters
    ----------
    picture : str
        The function that made it; one of ``dlmie.visualize``'s.
    made_by : mapping
        What describes the network or captioner.
    arguments : mapping
        The function's arguments other than model and images: anything that :func:`to_plain` takes.
    images : mapping
        Descriptions of images by argument name: one, or a list.
    results : mapping
        What was measured.
    """
    from dlmie import __version__

    return {
        "dlmie": __version__,
        "format": FORMAT,
        "picture": picture,
        "network": to_plain(made_by),
        "images": to_plain(images or {}),
        "arguments": to_plain(arguments),
        "results": to_plain(results or {}),
        "versions": {
            "python": platform.python_version(),
            "pytensor": version("pytensor"),
            "numpy": np.__version__,
        },
    }


def to_plain(value: object) -> Json:
    """Anything that an argument may be, as JSON values."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        plain: Json = value.tolist()
        return plain
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} does not belong in a manifest")


def image_paths(manifest: JsonObject) -> list[str]:
    """The image files that a picture was made from, as its manifest names them."""
    found: list[str] = []
    for described in manifest.get("images", {}).values():
        each = described if isinstance(described, list) else [described]
        found += [one["path"] for one in each if isinstance(one, dict) and one.get("path")]
    return found


def manifest_path(picture: str | Path) -> Path:
    """``dream.png`` → ``dream.json``, or ``dream.png.json`` where that is another picture's.

    A manifest belongs to one file: ``dream.png`` and ``dream.gif`` have one each.
    """
    picture = Path(picture)
    short, full = picture.with_suffix(SUFFIX), picture.with_name(picture.name + SUFFIX)
    if full.exists():
        return full
    owner = _owner(short)
    return full if owner not in (None, picture.name) else short


def _owner(manifest: Path) -> str | None:
    """The file beside a manifest that it belongs to; None where it is unknown or missing."""
    try:
        described = read_json(manifest)
        name = described.get("file") if "picture" in described else None
    except (DataError, AttributeError, TypeError):
        return None
    if not isinstance(name, str) or Path(name).name != name:
        return None
    return name if (manifest.parent / name).exists() else None


def check_place(picture: Path) -> None:
    """Refuse a picture whose manifest would replace a JSON file that is not a manifest.

    Raises
    ------
    OutputError
        There is such a file.
    """
    path = manifest_path(picture)
    if kind_of(path) not in (None, MANIFEST):
        raise OutputError(
            f"{path} exists and is not the manifest of a picture: give the picture another name"
        )


def write_manifest(picture: Path, manifest: JsonObject) -> Path:
    """Write the manifest beside a picture."""
    check_place(picture)
    return atomic.write_json(manifest_path(picture), {**manifest, "file": picture.name})


def read_manifest(path: str | Path) -> JsonObject:
    """Read a manifest, by its own name or that of its picture.

    Raises
    ------
    DataError
        There is none, or it is damaged or of a later version.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        path = manifest_path(path)
    if not path.exists():
        raise DataError(f"{path}: no such manifest")
    return check_manifest(read_json(path), path)


def check_manifest(manifest: Json, source: str | Path) -> JsonObject:
    """A manifest, if it is one; messages begin with its source.

    Raises
    ------
    DataError
        It is not, or it is damaged or of a later version.
    """
    if not isinstance(manifest, dict) or "picture" not in manifest:
        raise DataError(f"{source}: is not the manifest of a picture of dlmie")
    stated = check_document(manifest, {"format": Key(int, low=0)}, source)
    if stated["format"] > FORMAT:
        raise DataError(f"{source}: was written by a later version of dlmie; update dlmie")
    return check_document(manifest, _KEYS, source)
