"""``reproduce``: the same picture again, from its manifest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

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
from dlmie.visualize.figures.manifests import check_manifest, read_manifest
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

# What a manifest says of the model, as far as it is compared.
_MODEL = {
    "name": Key(str),
    "weights": Key(dict, required=False, null=True),
    "captioner": Key(list, required=False, each=Key(dict, keys={"sha256": Key(str)})),
}

# Arguments of `saliency_rows`.
_ROWS = {
    "rows": Key(list, each=Key(dict, keys={"picture": Key(str, among=("saliency",))})),
    "titles": Key(list, required=False),
    "colors": Key(str, required=False),
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
    if isinstance(manifest, dict):
        check_manifest(manifest, "the manifest")
    else:
        folder = Path(manifest).resolve().parent
        manifest = read_manifest(manifest)
    picture = manifest["picture"]
    arguments = {_ARGUMENTS.get(k, k): value for k, value in manifest["arguments"].items()}
    if picture == "saliency_rows":
        check_document(arguments, _ROWS, "the manifest's arguments")
        rows = [reproduce(row, model, progress=progress) for row in arguments.pop("rows")]
        return _make(saliency_rows, rows, {}, arguments)
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
    return _make(_PICTURES[picture], _subject(picture, arguments, model), sources, arguments)


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


def _make(
    make: Callable[..., Figure],
    subject: object,
    images: Mapping[str, object],
    arguments: JsonObject,
) -> Figure:
    """Call a function with what a manifest holds; a DlmieError if it does not fit the function."""
    try:
        call = signature(make).bind(subject, **images, **arguments)
    except TypeError as error:  # something is missing, unknown or given twice
        raise DlmieError(f"the manifest does not fit its picture: {error}") from None
    return make(*call.args, **call.kwargs)


def _subject(picture: str, arguments: JsonObject, model: Model) -> object:
    """The first argument of a picture: an objective, one or several layers, or the model.

    What names it is taken out of the arguments.
    """
    network = network_of(model)
    if picture in ("invert", "grid"):
        layers = _taken("layer", arguments)
        return [network[n] for n in layers] if isinstance(layers, list) else network[layers]
    if picture in ("dream", "visualize"):
        stated, layer = _taken("objective", arguments), arguments.pop("layer", None)
        return network[layer] if stated is None else objectives.from_json(stated, model)
    return model


def _taken(name: str, arguments: JsonObject) -> Any:
    """An argument, which is taken out of the others."""
    if name not in arguments:
        raise DlmieError(f"the manifest has no argument {name!r}")
    return arguments.pop(name)


def _find_images(
    name: str,
    described: ImageDescription | list[ImageDescription],
    given: Images | None,
    folder: Path | None,
) -> Images | None:
    """The image that an argument means, or the list of images."""
    if isinstance(described, list):
        several = given if isinstance(given, (list, tuple)) else [given] * len(described)
        if len(several) != len(described):
            raise DlmieError(f"the picture has {len(described)} of {name}, not {len(several)}")
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
        name: Key(type(parameter.default), required=False)
        for name, parameter in parameters.items()
        if type(parameter.default) in (bool, int, float, str)
        and not isinstance(arguments.get(name), (list, dict))  # sizes, and presets in full
    }
    check_document(arguments, keys, "the manifest's arguments")


def _check_model(described: JsonObject, model: Model) -> None:
    check_document(described, _MODEL, "the manifest's network")
    theirs, ours = _named(described), _named(describe_model(model))
    if theirs != ours:
        raise DlmieError(f"the picture was made with {_listed(theirs)}, not with {_listed(ours)}")


def _named(described: JsonObject) -> list[tuple[str, str]]:
    """What made a picture: the name and hash of the network, and of each captioner's file."""
    network = described["name"], str((described.get("weights") or {}).get("sha256"))
    return [network, *(("captioner", c["sha256"]) for c in described.get("captioner", ()))]


def _listed(named: list[tuple[str, str]]) -> str:
    return " and ".join(f"{name} (weights {sha[:12]})" for name, sha in named)
