"""``dlmie visualize``: the image that a class, channel or layer likes best."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.pictures import (
    animation_option,
    captioner_option,
    load_model,
    network_options,
    one_line_warnings,
    output_path,
    picture_options,
    write_picture,
)
from dlmie.cli.verbs import verb

if TYPE_CHECKING:
    from dlmie.visualize.ascent.models import Model
    from dlmie.visualize.ascent.objectives import Objective

TARGET = "dlmie.visualize.synthesis.class_images:visualize"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    preset: str
    steps: int | None
    rate: float | None
    jitter: int | None
    scale: float | None
    rotate: float | None
    noise: float | None
    blur: float | None
    blur_every: int | None
    decay: float | None
    octaves: int


@verb("visualize", backends=True)
@click.option(
    "--target",
    default="flamingo",
    show_default=True,
    help="A class by number or name; of a captioner a sentence.",
)
@captioner_option("for an image that it captions with --target")
@click.option("--layer", help="Not a class: a channel, or the energy, of this layer.")
@click.option("--channel", type=whole(0), help="Of the layer.  [default: its energy]")
@click.option(
    "--place",
    nargs=2,
    type=whole(0),
    metavar="ROW COLUMN",
    help="Of the channel: one neuron.  [default: all places]",
)
@click.option("--size", type=whole(16), help="Pixels.  [default: as the encoder was trained]")
@options_of(
    TARGET,
    preset=(
        "Settings.",
        click.Choice(
            ["fourier", *(f"yosinski-{i}" for i in (1, 2, 3, 4)), "cs231n", "tiny-imagenet"]
        ),
    ),
    steps=("In place of the preset's.", whole(1)),
)  # fmt: skip
@section(
    "In place of the preset's",
    options_of(
        TARGET,
        rate=("Length of a step.", real(0)),
        jitter=("Random shifts in pixels.", whole(0)),
        scale=("Random sizes, 1 ± this.", real(0, 0.9)),
        rotate=("Random turns, in degrees.", real(0)),
        noise=("Random noise, in gray levels.", real(0)),
        blur=("Gaussian blur in pixels …", real(0)),
        blur_every=("… every so many steps.", whole(1)),
        decay=("L2 decay per step.", real(0, 1)),
        octaves=("Sizes to go through.", whole(1)),
    ),
)
@picture_options("visualize.png here")
@animation_option
@network_options
def command(
    console: Console,
    target: str,
    captioner: str | None,
    layer: str | None,
    channel: int | None,
    place: tuple[int, int] | None,
    size: int | None,
    output: str | None,
    figure: str | None,
    animation: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Make the image that a class, a channel or a layer answers to most, or for which
    a captioner finds a sentence likely, from noise."""
    from dlmie.visualize.synthesis.class_images import visualize

    path = output_path(console, output, None, "visualize", figure=figure, animation=animation)
    if channel is not None and layer is None:
        raise click.UsageError("--channel needs --layer")
    if place is not None and channel is None:
        raise click.UsageError("--place needs --channel")
    if captioner is not None and layer is not None:
        raise click.UsageError("--layer does not go with --captioner")
    model = load_model(captioner, encoder, encoder_weights, encoder_preprocessing)
    if layer is None:
        objective = _answer(model, target)
    else:
        objective = _activation(model, layer, channel, place)
    with one_line_warnings(console):
        result = visualize(
            objective,
            size=size,
            frames=24 if animation else 5 if figure else 0,
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    found = result.manifest["results"]
    text = found["labels"][0]
    if found["probabilities"]:
        text += f" {found['probabilities'][0]:.1%}"
    write_picture(console, result, path, figure=figure, animation=animation, text=text)


def _answer(model: Model, target: str) -> Objective:
    """The objective of a class, or of a captioner's sentence."""
    from dlmie.graph.network import Network
    from dlmie.visualize.ascent import objectives
    from dlmie.visualize.ascent.inputs import class_index

    if isinstance(model, Network):
        return objectives.unit(model["logits"], class_index(model, target))
    return objectives.sentence_with_class_energy(model, target)


def _activation(
    model: Model, layer: str, channel: int | None, place: tuple[int, int] | None
) -> Objective:
    """The objective of a layer, a channel, or one of its neurons."""
    from dlmie.visualize.ascent import objectives
    from dlmie.visualize.ascent.models import network_of

    variable = network_of(model)[layer]
    if channel is None:
        return objectives.energy(variable)
    if place is not None:
        return objectives.neuron(variable, channel, *place)
    if variable.type.ndim == 2:
        return objectives.unit(variable, channel)
    return objectives.channel(variable, channel)
