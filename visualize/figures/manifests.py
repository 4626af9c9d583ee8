"""Manifests: what made a picture, as JSON beside it; enough to make the same one again."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, load_image
from dlmie.errors import DataError, OutputError
from dlmie.files import atomic
from dlmie.files.documents import read_json
from dlmie.files.outputs import MANIFEST, kind_of
from dlmie.files.schema import Key, check_document
from dlmie.graph.network import Network
from dlmie.visualize.ascent.inputs import network_of

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
_IMAGE = {
    "path": Key(str, null=True),
    "sha256": Key(str),
}


def describe_image(image: ImageSource) -> dict[str, Any]:
    """Where an image came from and a hash of its pixels."""
    pixels = load_image(image)
    path = str(image) if isinstance(image, (str, Path)) else None
    return {
        "path": path,
        "sha256": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        "size": list(pixels.shape[:2]),
    }


def describe_network(network: Network) -> dict[str, Any]:
    """Name, weights and image size of a network."""
    size = network.input.type.shape[2]
    options = {"options": network.options} if network.options else {}
    return {"name": network.name, "weights": network.weights, "size": size, **options}


def describe_model(model: Any) -> dict[str, Any]:
    """A network; or a captioner: its encoder, and the name and hash of each of its files."""
    from dlmie.weights import sha256

    if isinstance(model, Network):
        return describe_network(model)
    files = [{"source": m.source, "sha256": sha256(m.path)} for m in model.members]
    return {**describe_network(network_of(model)), "captioner": files}


def make_manifest(
    picture: str,
    model: Any,
    arguments: Mapping[str, Any],
    *,
    images: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a picture.

    Parameters
    ----------
    picture : str
        The function that made it; one of ``dlmie.visualize``'s verbs.
    model : Network, ImageCaptioner or mapping
        What made it; a mapping describes it already.
    arguments : dict
        Its arguments other than network and images, as JSON values.
    images : dict
        Image arguments by name: an image, or a list of them.
    results : dict
        What was measured.
    """
    import pytensor

    from dlmie import __version__

    shown = {
        name: [describe_image(i) for i in image]
        if isinstance(image, (list, tuple))
        else describe_image(image)
        for name, image in (images or {}).items()
    }
    # A network is a mapping too: of its layers.
    plain = isinstance(model, Mapping) and not isinstance(model, Network)
    described = model if plain else describe_model(model)
    return {
        "dlmie": __version__,
        "format": FORMAT,
        "picture": picture,
        "network": to_plain(described),
        "images": shown,
        "arguments": to_plain(arguments),
        "results": to_plain(results or {}),
        "versions": {
            "python": platform.python_version(),
            "pytensor": pytensor.__version__,
            "numpy": np.__version__,
        },
    }


def to_plain(value: Any) -> Any:
    """Anything an argument may be, as JSON values."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} does not belong in a manifest")


def find_image(name: str, described: Any, given: ImageSource | None, folder: Path | None) -> Any:
    """The image that a manifest means, checked by its hash; given ones may be different.

    Parameters
    ----------
    name : str
        Of the argument, for errors.
    described : dict or list of dict
        From :func:`describe_image`.
    given : optional
        The image, or images, to use instead.
    folder : path, optional
        Of the manifest: images are also looked for there.

    Raises
    ------
    DataError
        The image is gone, has changed, or was never a file.
    """
    if isinstance(described, list):
        several = given if isinstance(given, (list, tuple)) else [given] * len(described)
        return [find_image(name, d, g, folder) for d, g in zip(described, several, strict=True)]
    if given is not None:
        return given
    path = check_document(described, _IMAGE, f"the manifest's {name}")["path"]
    if path is None:
        raise DataError(f"the picture was made from pixels in memory: give the {name}")
    places = [Path(path)] if folder is None else [Path(path), folder / Path(path).name]
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        raise DataError(f"{path}: the {name} of the picture is no longer there")
    if describe_image(place)["sha256"] != described["sha256"]:
        raise DataError(f"{place}: has changed since the picture was made")
    return str(place)


def image_paths(manifest: Mapping[str, Any]) -> list[str]:
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
    """The file beside a manifest that it belongs to; None where that is not known or not there."""
    try:
        described = read_json(manifest)
        name = described.get("file") if "picture" in described else None
    except (DataError, AttributeError, TypeError):
        return None
    if not isinstance(name, str) or Path(name).name != name:
        return None
    return name if (manifest.parent / name).exists() else None


def check_place(picture: Path) -> None:
    """Refuse a picture whose manifest would replace a JSON file that is none of ours.

    Raises
    ------
    OutputError
        There is such a file.
    """
    path = manifest_path(picture)
    if kind_of(path) not in (None, MANIFEST):
        raise OutputError(
            f"{path} is there and no manifest of a picture: give the picture another name"
        )


def write_manifest(picture: Path, manifest: Mapping[str, Any]) -> Path:
    """Write the manifest beside a picture."""
    check_place(picture)
    return atomic.write_json(manifest_path(picture), {**manifest, "file": picture.name})


def read_manifest(path: str | Path) -> dict[str, Any]:
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
    manifest = read_json(path)
    if not isinstance(manifest, dict) or "picture" not in manifest:
        raise DataError(f"{path}: is no manifest of a picture of dlmie")
    check_document(manifest, {"format": Key(int, low=0)}, path)
    if manifest["format"] > FORMAT:
        raise DataError(f"{path}: was written by a later version of dlmie; update dlmie")
    return check_document(manifest, _KEYS, path)
