"""``dlmie saliency``: what in a photograph a class, or a word, depends on."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_source
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.pictures import (
    captioner_option,
    load_model,
    network_options,
    one_line_warnings,
    output_path,
    picture_options,
    target_of,
    write_picture,
)
from dlmie.cli.verbs import verb

TARGET = "dlmie.visualize.attribution.maps:saliency"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    method: str
    layer: str | None
    samples: int
    noise: float
    steps: int
    patch: int
    stride: int
    batch: int


@verb("saliency", backends=True)
@click.argument("image", type=click.Path())
@click.option(
    "--target",
    help="A class by number or name; of a captioner a word of its caption, or a sentence."
    "  [default: the most likely class; the whole caption]",
)
@options_of(TARGET, method="How: gradient, smooth, integrated, guided, grad-cam, occlusion …")
@captioner_option("about its caption")
@section(
    "The method",
    options_of(
        TARGET,
        layer="Of Grad-CAM.  [default: the last layer of maps]",
        samples=("Noisy copies of the smooth methods.", whole(1)),
        noise=("Their noise, as a share of the image's range.", real(0)),
        steps=("Gradients of integrated, at most.", whole(2)),
        patch=("Pixels hidden at a time by occlusion.", whole(1)),
        stride=("Pixels from patch to patch.", whole(1)),
        batch=("Images at a time.", whole(1)),
    ),
)
@click.option("--plain", is_flag=True, help="The map alone, not over the photograph.")
@picture_options("IMAGE-saliency.png here")
@network_options
def command(
    console: Console,
    image: str,
    target: str | None,
    captioner: str | None,
    plain: bool,
    output: str | None,
    figure: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Show what in the photograph IMAGE a class depends on, or a word of a caption.

    For IMAGE, - stands for standard input.
    """
    from dlmie.visualize.attribution.maps import saliency

    source = find_source(image)
    path = output_path(console, output, image, "saliency", [source], figure=figure)
    model = load_model(captioner, encoder, encoder_weights, encoder_preprocessing)
    with one_line_warnings(console):
        result = saliency(
            model,
            source,
            target_of(target),
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    shown = result if plain else result.overlay()
    label = result.manifest["results"]["label"]
    write_picture(console, shown, path, figure=figure, text=f"{image}: {label}")
