"""``reproduce``: the same picture again, from its manifest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TypeAlias

from dlmie.data.images import ImageSource
from dlmie.errors import DlmieError
from dlmie.files.schema import Key, check_document
from dlmie.text import suggest
from dlmie.typing import JsonObject
from dlmie.visualize.ascent import objectives
from dlmie.visualize.ascent.models import Model, describe_model, network_of
from dlmie.visualize.attribution.activations import grid
from dlmie.visualize.attribution.maps import saliency, saliency_rows
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import read_manifest
from dlmie.visualize.figures.sources import ImageDescription, find_image
from dlmie.visualize.synthesis.adversarial import fool
from dlmie.visualize.synthesis.class_images import visualize
from dlmie.visualize.synthesis.deepdream import dream
from dlmie.visualize.synthesis.inversion import invert
from dlmie.visualize.synthesis.style_transfer import stylize

Images: TypeAlias = "ImageSource | Sequence[ImageSource]"

# The pictures that a manifest may name, of one model and one image each; nothing else is called.
_PICTURES: dict[str, Callable[..., Figure]] = {
    "saliency": saliency,
    "fool": fool,
    "visualize": visualize,
    "invert": invert,
    "grid": grid,
    "dream": dream,
    "stylize": stylize,
}

# Arguments that manifests have always named otherwise.
_ARGUMENTS = {"original_colours": "original_colors", "colours": "colors"}


def reproduce(
    manifest: str | Path | JsonObject,
    model: Model,
    *,
    images: Mapping[str, Images] | None = None,
    progress: bool = False,
) -> Figure:
    """Make a picture again.

    Parameters
    ----------
    manifest
        Its manifest: a path (the picture's own will do) or the dict.
    model : Network or ImageCaptioner
        What it was made with.
    images : dict, optional
        Images by argument name, where they have moved or were arrays.
    progress : bool

    Returns
    -------
    Figure

    Raises
    ------
    DlmieError
        Another network or other weights, an image that was not found or has changed, or a picture
        that needs more than its manifest.

    Examples
    --------
    >>> reproduce("dream.png", net).save("again.png")                       # doctest: +SKIP
    """
    folder = None
    if not isinstance(manifest, dict):
        folder = Path(manifest).resolve().parent
        manifest = read_manifest(manifest)
    picture = manifest["picture"]
    arguments = {_ARGUMENTS.get(k, k): value for k, value in manifest["arguments"].items()}
    if picture == "saliency_rows":
        rows = [reproduce(row, model, progress=progress) for row in arguments.pop("rows")]
        return saliency_rows(rows, **arguments)
    if picture not in _PICTURES:
        raise DlmieError(f"no picture {picture!r} can be reproduced{suggest(picture, _PICTURES)}")
    _check_arguments(picture, arguments)
    _check_model(manifest["network"], model)
    sources = {
        name: _find_images(name, described, (images or {}).get(name), folder)
        for name, described in manifest["images"].items()
    }
    if picture == "stylize":
        sources.setdefault("content", None)
    if picture != "grid":
        arguments["progress"] = progress
    return _PICTURES[picture](_subject(picture, arguments, model), **sources, **arguments)


def redo(
    manifest: str | Path | JsonObject,
    model: Model,
    *,
    images: Mapping[str, Images] | None = None,
    progress: bool = False,
) -> Figure:
    """Make a picture again: the old name of :func:`reproduce`, deprecated."""
    warnings.warn("redo is now called reproduce", DeprecationWarning, stacklevel=2)
    return reproduce(manifest, model, images=images, progress=progress)


def _subject(picture: str, arguments: JsonObject, model: Model) -> object:
    """The first argument of a picture: an objective, one or several layers, or the model.

    What names it is taken out of the arguments.
    """
    network = network_of(model)
    if picture in ("invert", "grid"):
        layers = arguments.pop("layer")
        return [network[n] for n in layers] if isinstance(layers, list) else network[layers]
    if picture in ("dream", "visualize"):
        stated, layer = arguments.pop("objective"), arguments.pop("layer", None)
        return network[layer] if stated is None else objectives.from_json(stated, model)
    return model


def _find_images(
    name: str,
    described: ImageDescription | list[ImageDescription],
    given: Images | None,
    folder: Path | None,
) -> Images | None:
    """The image that an argument means, or the list of images."""
    if isinstance(described, list):
        several = given if isinstance(given, (list, tuple)) else [given] * len(described)
        return [
            find_image(name, one, other, folder)
            for one, other in zip(described, several, strict=True)
        ]
    if isinstance(given, (list, tuple)):
        raise DlmieError(f"the picture has one {name}, not {len(given)}")
    return find_image(name, described, given, folder)  # type: ignore[arg-type]


def _check_arguments(picture: str, arguments: JsonObject) -> None:
    """Refuse arguments that a picture does not have, or of another kind than its defaults."""
    parameters = signature(_PICTURES[picture]).parameters
    known = [*parameters, "objective", "layer"]
    for name in arguments:
        if name not in known:
            raise DlmieError(f"the manifest's argument {name!r} is not known{suggest(name, known)}")
    keys = {
        name: Key(type(parameter.default))
        for name, parameter in parameters.items()
        if type(parameter.default) in (bool, int, float, str)
        and not isinstance(arguments.get(name), (list, dict))  # sizes, and presets in full
    }
    check_document(
        {n: arguments[n] for n in keys if n in arguments},
        {name: key for name, key in keys.items() if name in arguments},
        "the manifest's arguments",
    )


def _check_model(described: JsonObject, model: Model) -> None:
    theirs, ours = _named(described), _named(describe_model(model))
    if theirs != ours:
        raise DlmieError(f"the picture was made with {_listed(theirs)}, not with {_listed(ours)}")


def _named(described: JsonObject) -> list[tuple[str, str]]:
    """What made a picture: the name and hash of the network, and of each captioner's file."""
    network = described["name"], str((described.get("weights") or {}).get("sha256"))
    return [network, *(("captioner", c["sha256"]) for c in described.get("captioner", ()))]


def _listed(named: list[tuple[str, str]]) -> str:
    return " and ".join(f"{name} (weights {sha[:12]})" for name, sha in named)
