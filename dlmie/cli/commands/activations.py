"""``dlmie activations``: what the channels of a layer answer to a photograph."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_source
from dlmie.cli.options import options_of, whole
from dlmie.cli.pictures import (
    layer_by_name,
    load_network,
    network_options,
    one_line_warnings,
    output_path,
    picture_options,
    write_picture,
)
from dlmie.cli.verbs import verb

TARGET = "dlmie.visualize.attribution.activations:grid"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    strongest: int
    most: int
    columns: int
    cell: int


@verb("activations", backends=True)
@click.argument("image", type=click.Path())
@click.option("--layer", help="Whose channels.  [default: a middle one]")
@click.option("--channels", help="For --figure, with commas.  [default: the strongest]")
@options_of(
    TARGET,
    strongest=("Channels over the photograph in --figure.", whole(1)),
    most=("Channels in the grid; of more, the strongest.", whole(1)),
    columns=("Of the grid.", whole(1)),
    cell=("Pixels of a map.", whole(1)),
)
@picture_options("IMAGE-activations.png here")
@network_options
def command(
    console: Console,
    image: str,
    layer: str | None,
    channels: str | None,
    output: str | None,
    figure: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Show the maps of all channels of a layer as a grid; with --figure some of them over IMAGE.

    For IMAGE, - stands for standard input.
    """
    from dlmie.visualize.attribution.activations import grid

    source = find_source(image)
    path = output_path(console, output, image, "activations", [source], figure=figure)
    chosen = None if channels is None else _numbers(channels)
    network = load_network(encoder, encoder_weights, encoder_preprocessing)
    with one_line_warnings(console):
        result = grid(layer_by_name(network, layer), source, channels=chosen, **options)
    found = result.manifest["results"]
    strongest = ", ".join(map(str, found["strongest"]))
    text = f"{image}: {len(found['channels'])} channels of {found['layer']}, strongest {strongest}"
    write_picture(console, result, path, figure=figure, text=text)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--channels {text}: give numbers with commas, as 3,17") from None
