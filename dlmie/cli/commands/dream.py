"""``dlmie dream``: whatever a network sees in a photograph, more of it."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_source
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.pictures import (
    animation_option,
    layer_by_name,
    load_network,
    network_options,
    one_line_warnings,
    output_path,
    picture_options,
    target_of,
    write_picture,
)
from dlmie.cli.verbs import verb

TARGET = "dlmie.visualize.synthesis.deepdream:dream"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    octaves: int
    scale: float
    steps: int
    rate: float
    jitter: int
    longer: int
    tile: int


@verb("dream", backends=True)
@click.argument("image", type=click.Path())
@click.option("--layer", help="What to have more of.  [default: a good layer]")
@click.option("--channel", type=whole(0), help="Only this channel of the layer.")
@click.option("--target", help="Dream of a class, by number or name.")
@click.option("--guide", type=click.Path(), help="Another image whose features are to appear.")
@section(
    "The dream",
    options_of(
        TARGET,
        octaves=("Sizes to go through.", whole(1)),
        scale=("From size to size.", real(1.01, 4)),
        steps=("In each size.", whole(1)),
        rate=("Gray levels a step adds on average.", real(0)),
        jitter=("Random shift in pixels.", whole(0)),
        longer=("Reduce the longer side to so many pixels.", whole(32)),
        tile=("Pixels evaluated at once: bounds the memory.", whole(64)),
        zoom=("Frames of --animation, moving into the picture.", whole(0)),
    ),
)
@picture_options("IMAGE-dream.png here")
@animation_option
@network_options
def command(
    console: Console,
    image: str,
    layer: str | None,
    channel: int | None,
    target: str | None,
    guide: str | None,
    zoom: int,
    output: str | None,
    figure: str | None,
    animation: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Let a network dream on the photograph IMAGE.

    For IMAGE, - stands for standard input.
    """
    from dlmie.visualize.ascent import objectives
    from dlmie.visualize.ascent.inputs import class_index
    from dlmie.visualize.ascent.layers import last_at
    from dlmie.visualize.synthesis.deepdream import dream

    source = find_source(image)
    path = output_path(
        console, output, image, "dream", [source], figure=figure, animation=animation
    )
    network = load_network(encoder, encoder_weights, encoder_preprocessing)
    named = target_of(target)
    what = layer_by_name(network, layer)
    if named is not None:
        if layer is not None or guide is not None:
            raise click.UsageError("--target does not go with --layer or --guide")
        what = objectives.unit(network["logits"], class_index(network, named))
    elif channel is not None:
        what = objectives.channel(network[layer or last_at(network, 16)], channel)
    with one_line_warnings(console):
        result = dream(
            what,
            source,
            guide=None if guide is None else find_source(guide),
            zoom=zoom or (16 if animation else 0),
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    text = f"{image}: {result.manifest['results']['objective']}"
    write_picture(console, result, path, figure=figure, animation=animation, text=text)
