"""Manifests: what made a picture, as JSON beside it; enough to make the same one again."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, load_image
from dlmie.errors import DataError, DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.inputs import network_of

FORMAT = 1
SUFFIX = ".json"


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
    path = described["path"]
    if path is None:
        raise DataError(f"the picture was made from pixels in memory: give the {name}")
    places = [Path(path)] if folder is None else [Path(path), folder / Path(path).name]
    place = next((p for p in places if p.is_file()), None)
    if place is None:
        raise DataError(f"{path}: the {name} of the picture is no longer there")
    if describe_image(place)["sha256"] != described["sha256"]:
        raise DataError(f"{place}: has changed since the picture was made")
    return str(place)


def manifest_path(picture: str | Path) -> Path:
    """``dream.png`` → ``dream.json``."""
    return Path(picture).with_suffix(SUFFIX)


def write_manifest(picture: Path, manifest: Mapping[str, Any]) -> Path:
    """Write the manifest beside a picture; never over a JSON file that is none of ours."""
    path = manifest_path(picture)
    if path.exists():
        try:
            ours = "picture" in json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError):
            ours = False
        if not ours:
            raise DlmieError(
                f"{path} is there and no manifest of a picture: give the picture another name"
            )
    text = json.dumps({**manifest, "file": picture.name}, indent=2, ensure_ascii=False)
    temporary = path.with_name(path.name + ".part")
    # What is not UTF-8 of a file name becomes an escape of JSON, which gives it back.
    temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    temporary.replace(path)
    return path


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
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest") from None
    except (ValueError, UnicodeDecodeError):
        raise DataError(f"{path}: is no JSON file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not isinstance(manifest, dict) or "picture" not in manifest:
        raise DataError(f"{path}: is no manifest of a picture of dlmie")
    if manifest.get("format", 0) > FORMAT:
        raise DataError(f"{path}: was written by a later version of dlmie; update dlmie")
    return manifest
