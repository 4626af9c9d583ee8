"""``dlmie style``: a photograph in the style of other pictures."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_source
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.pictures import (
    animation_option,
    load_network,
    network_options,
    one_line_warnings,
    output_path,
    picture_options,
    write_picture,
)
from dlmie.cli.verbs import verb

TARGET = "dlmie.visualize.synthesis.style_transfer:stylize"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    longer: int | None
    style_longer: int | None
    content_weight: float
    variation: float
    start: str | None
    preset: str | None
    content_layer: str | None
    octaves: int | None
    steps: int | None
    rate: float | None
    method: str


@verb("style", backends=True)
@click.option("--content", type=click.Path(), help="The photograph.  [default: none, a texture]")
@click.option(
    "--style",
    "styles",
    type=click.Path(),
    multiple=True,
    help="A picture in the style wanted; may be given several times.",
)
@click.option(
    "--style-share",
    "shares",
    type=real(0),
    multiple=True,
    help="Share of each style, in order.  [default: equal]",
)
@section(
    "The picture",
    options_of(
        TARGET,
        longer=("Longer side in pixels.  [default: 384]", whole(32)),
        style_longer=("Of the styles: smaller, finer strokes.  [default: the same]", whole(32)),
        style_weight=("More is more style; 0 with --start noise inverts the content.", real(0)),
        content_weight=("More is more content.", real(0)),
        variation=("More is smoother.", real(0)),
        original_colors="Keep the photograph's colors.",
        start=("From what.  [default: content]", click.Choice(["content", "noise"])),
    ),
)
@section(
    "The method",
    options_of(
        TARGET,
        preset=(
            "Weights, sizes, steps and rates of cs231n, for SqueezeNet.",
            click.Choice(["composition", "scream", "starry"]),
        ),
        content_layer="[default: fit for the network]",
        octaves=("Sizes to go through, each twice the one before.  [default: 2]", whole(1)),
        steps=("In each size.  [default: 120]", whole(1)),
        rate=("Of adam, in gray levels.  [default: 5, falling]", real(0)),
        method=("How.", click.Choice(["adam", "lbfgs"])),
    ),
)
@click.option("--original-colours", is_flag=True, hidden=True)  # its old name
@picture_options("CONTENT-style.png here")
@animation_option
@network_options
def command(
    console: Console,
    content: str | None,
    styles: tuple[str, ...],
    shares: tuple[float, ...],
    output: str | None,
    figure: str | None,
    animation: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    style_weight: float,
    original_colors: bool,
    original_colours: bool,
    **options: Unpack[_Options],
) -> None:
    """Paint the photograph CONTENT in the style of other pictures."""
    from dlmie.visualize.synthesis.style_transfer import stylize

    if not styles and style_weight:
        raise click.UsageError("Missing option '--style'.")
    photograph = None if content is None else find_source(content)
    pictures = [find_source(style) for style in styles]
    path = output_path(
        console, output, content, "style", [photograph, *pictures],
        figure=figure, animation=animation,
    )  # fmt: skip
    network = load_network(encoder, encoder_weights, encoder_preprocessing)
    with one_line_warnings(console):
        result = stylize(
            network,
            photograph,
            pictures,
            style_weights=list(shares) or None,
            style_weight=style_weight,
            original_colors=original_colors or original_colours,
            frames=24 if animation else 0,
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    text = f"{content or 'texture'} in the style of {', '.join(styles) or 'nothing'}"
    write_picture(console, result, path, figure=figure, animation=animation, text=text)
