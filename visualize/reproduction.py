"""``redo``: the same picture again, from its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlmie.data.images import ImageSource
from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.visualize.ascent import objectives
from dlmie.visualize.attribution.activations import grid
from dlmie.visualize.attribution.maps import saliency, saliency_rows
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import describe_model, find_image, read_manifest
from dlmie.visualize.synthesis.adversarial import fool
from dlmie.visualize.synthesis.class_images import visualize
from dlmie.visualize.synthesis.deepdream import dream
from dlmie.visualize.synthesis.inversion import invert
from dlmie.visualize.synthesis.style_transfer import stylize

# The pictures a manifest may name; nothing else is ever called.
_REMAKERS: dict[str, Callable[..., Figure]] = {
    "saliency": saliency,
    "fool": fool,
    "visualize": visualize,
    "invert": invert,
    "grid": grid,
    "dream": dream,
    "stylize": stylize,
}


def redo(
    manifest: str | Path | dict[str, Any],
    model: Any,
    *,
    images: dict[str, ImageSource] | None = None,
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
        Another network or other weights, an image that is gone or has changed, or a picture that
        needs more than its manifest.
    """
    folder = None
    if not isinstance(manifest, dict):
        folder = Path(manifest).resolve().parent
        manifest = read_manifest(manifest)
    picture = manifest["picture"]
    if picture == "saliency_rows":
        arguments = dict(manifest["arguments"])
        rows = [redo(row, model, progress=progress) for row in arguments.pop("rows")]
        return saliency_rows(rows, **arguments)
    if picture not in _REMAKERS:
        raise DlmieError(f"no picture {picture!r} can be made again{suggest(picture, _REMAKERS)}")
    _check_model(manifest["network"], model)
    sources = {
        name: find_image(name, described, (images or {}).get(name), folder)
        for name, described in manifest["images"].items()
    }
    arguments = dict(manifest["arguments"])
    function = _REMAKERS[picture]
    first: Any = model
    if picture in ("invert", "grid"):
        layers = arguments.pop("layer")
        first = [model[n] for n in layers] if isinstance(layers, list) else model[layers]
    elif picture in ("dream", "visualize"):
        stated, layer = arguments.pop("objective"), arguments.pop("layer", None)
        first = model[layer] if stated is None else objectives.from_json(stated, model)
    if picture == "stylize":
        content = sources.pop("content", None)
        return stylize(model, content, progress=progress, **sources, **arguments)
    if picture != "grid":
        arguments["progress"] = progress
    return function(first, **sources, **arguments)


def _check_model(described: dict[str, Any], model: Any) -> None:
    mine = describe_model(model)
    theirs, ours = _named(described), _named(mine)
    if theirs != ours:
        raise DlmieError(f"the picture was made with {_listed(theirs)}, not with {_listed(ours)}")


def _named(described: dict[str, Any]) -> list[tuple[str, str]]:
    """What made a picture: the name and hash of the network, and of each captioner's file."""
    network = described["name"], str((described.get("weights") or {}).get("sha256"))
    return [network, *(("captioner", c["sha256"]) for c in described.get("captioner", ()))]


def _listed(named: list[tuple[str, str]]) -> str:
    return " and ".join(f"{name} (weights {sha[:12]})" for name, sha in named)
