"""``redo``: the same picture again, from its manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlmie.data.images import ImageSource
from dlmie.errors import DlmieError
from dlmie.network import Network, suggest
from dlmie.visualize import objectives
from dlmie.visualize.activations import grid
from dlmie.visualize.adversarial import fool
from dlmie.visualize.attribution import saliency
from dlmie.visualize.class_images import visualize
from dlmie.visualize.deepdream import dream
from dlmie.visualize.figures import Figure
from dlmie.visualize.inversion import invert
from dlmie.visualize.manifests import describe_network, find_image, read_manifest
from dlmie.visualize.style_transfer import stylize

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
    network: Network,
    *,
    images: dict[str, ImageSource] | None = None,
    progress: bool = False,
) -> Figure:
    """Make a picture again.

    Parameters
    ----------
    manifest
        Its manifest: a path (the picture's own will do) or the dict.
    network : Network
        The network it was made with.
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
    if picture not in _REMAKERS:
        raise DlmieError(f"no picture {picture!r} can be made again{suggest(picture, _REMAKERS)}")
    _check_network(manifest["network"], network)
    sources = {
        name: find_image(name, described, (images or {}).get(name), folder)
        for name, described in manifest["images"].items()
    }
    arguments = dict(manifest["arguments"])
    function = _REMAKERS[picture]
    first: Any = network
    if picture in ("invert", "grid"):
        layers = arguments.pop("layer")
        first = [network[n] for n in layers] if isinstance(layers, list) else network[layers]
    elif picture in ("dream", "visualize"):
        stated, layer = arguments.pop("objective"), arguments.pop("layer", None)
        first = network[layer] if stated is None else objectives.from_json(stated, network)
    if picture == "stylize":
        content = sources.pop("content", None)
        return stylize(network, content, progress=progress, **sources, **arguments)
    if picture != "grid":
        arguments["progress"] = progress
    return function(first, **sources, **arguments)


def _check_network(described: dict[str, Any], network: Network) -> None:
    mine = describe_network(network)
    hashes = [(d.get("weights") or {}).get("sha256") for d in (described, mine)]
    if described["name"] != mine["name"] or hashes[0] != hashes[1]:
        raise DlmieError(
            f"the picture was made with {described['name']} (weights {str(hashes[0])[:12]}), "
            f"not with {mine['name']} (weights {str(hashes[1])[:12]})"
        )
