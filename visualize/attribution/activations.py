"""Activation maps: all channels of a layer as a clean grid, and chosen ones over the photograph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.images import ImageSource, resize_planes
from dlmie.graph.network import Network
from dlmie.visualize.ascent.evaluation import layer_values
from dlmie.visualize.ascent.inputs import network_input
from dlmie.visualize.ascent.layers import as_layer
from dlmie.visualize.ascent.models import describe_network
from dlmie.visualize.ascent.objectives import one_hot
from dlmie.visualize.attribution.maps import FlatMapWarning
from dlmie.visualize.figures.compositing import colorize, overlay, tile
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.manifests import make_manifest
from dlmie.visualize.figures.panels import Panel
from dlmie.visualize.figures.sources import SourceImage


def grid(
    layer: Variable | Network,
    image: ImageSource,
    *,
    channels: Sequence[int] | None = None,
    columns: int = 16,
    most: int = 256,
    cell: int = 40,
    strongest: int = 4,
) -> Figure:
    """Show what the channels of a layer answer to a photograph.

    Parameters
    ----------
    layer : net["block5"] or a network
        Of a network, a middle layer.
    image
        Anything that ``load_image`` reads.
    channels : sequence of int, optional
        Those to lay over the photograph (default: the ``strongest``: of the largest deviation).
    columns : int
        Of the grid.
    most : int
        Channels of the grid; of layers with more, the strongest, in order.
    cell : int
        Pixels of a map in the grid.
    strongest : int
        Channels over the photograph, where ``channels`` names none.

    Returns
    -------
    Figure
        ``image``: the grid, each map scaled from its own lowest to its own highest value;
        ``figure()``: the photograph and the chosen channels over it, on one scale that is drawn;
        ``arrays["maps"]``: (channels, rows, columns) as they are.
    """
    network, name = as_layer(layer, 8)
    source = SourceImage.read(image)
    pixels = source.pixels
    (values,) = layer_values(network, [name], network_input(network, pixels))
    maps = values[0]
    # Not by the largest value: where a ReLU6 ends, half of the channels have it.
    ranked = np.argsort(-maps.std(axis=(1, 2)), kind="stable")
    shown = np.sort(ranked[:most])
    chosen = [int(c) for c in (ranked[:strongest] if channels is None else channels)]
    one_hot(chosen or [0], len(maps), "float32", f"{network.name}'s {name}")  # checks them
    low = maps[shown].min(axis=(1, 2), keepdims=True)
    high = maps[shown].max(axis=(1, 2), keepdims=True)
    if not (high > low).any():
        warnings.warn(f"all maps of {name} are flat", FlatMapWarning, stacklevel=2)
    scaled = (maps[shown] - low) / np.where(high > low, high - low, 1)
    repeat = max(1, round(cell / maps.shape[2]))
    cells = [colorize(one.repeat(repeat, 0).repeat(repeat, 1)) for one in scaled]
    top = max(float(maps[chosen].max(initial=0)), 1e-12)
    panels = [Panel(pixels, "photograph")]
    for c in chosen:
        panels += [
            Panel(maps[c], f"channel {c}", limits=(min(0.0, float(maps[chosen].min())), top)),
            Panel(
                overlay(pixels, resize_planes(np.maximum(maps[c], 0) / top, pixels.shape[:2])),
                f"channel {c} over it",
            ),
        ]
    results = {"layer": name, "channels": shown.tolist(), "strongest": chosen}
    arguments = {
        "layer": name,
        "channels": None if channels is None else chosen,
        "columns": columns,
        "most": most,
        "cell": cell,
        "strongest": strongest,
    }
    manifest = make_manifest(
        "grid",
        describe_network(network),
        arguments,
        images={"image": source.describe()},
        results=results,
    )
    return Figure(
        tile(cells, columns),
        panels,
        columns=5,
        manifest=manifest,
        arrays={"maps": maps},
        photo=pixels,
    )
