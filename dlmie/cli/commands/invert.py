"""``dlmie invert``: what a photograph looks like from inside a layer."""

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
    write_picture,
)
from dlmie.cli.verbs import verb

TARGET = "dlmie.visualize.synthesis.inversion:invert"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    method: str
    steps: int
    repeats: int
    rate: float
    variation: float


@verb("invert", backends=True)
@click.argument("image", type=click.Path())
@click.option(
    "--layer", help="Whose features; several with commas make a strip.  [default: a middle one]"
)
@click.option("--channel", type=whole(0), help="Match only this channel.")
@section(
    "The method",
    options_of(
        TARGET,
        method=("How.", click.Choice(["lbfgs", "adam", "mahendran"])),
        steps=("Of the descent.", whole(1)),
        repeats=("Images from different noise; the best is kept.", whole(1)),
        rate=("Of adam.", real(0)),
        variation=("Weight of smoothness.", real(0)),
    ),
)
@picture_options("IMAGE-invert.png here")
@animation_option
@network_options
def command(
    console: Console,
    image: str,
    layer: str | None,
    channel: int | None,
    output: str | None,
    figure: str | None,
    animation: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Find an image that a layer cannot tell from the photograph IMAGE.

    For IMAGE, - stands for standard input.
    """
    from dlmie.visualize.synthesis.inversion import invert

    source = find_source(image)
    path = output_path(
        console, output, image, "invert", [source], figure=figure, animation=animation
    )
    network = load_network(encoder, encoder_weights, encoder_preprocessing)
    with one_line_warnings(console):
        result = invert(
            layer_by_name(network, layer),
            source,
            channels=None if channel is None else [channel],
            frames=24 if animation else 0,
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    errors = ", ".join(f"{e:.3f}" for e in result.manifest["results"]["errors"])
    text = f"{image}: relative error {errors}"
    write_picture(console, result, path, figure=figure, animation=animation, text=text)
