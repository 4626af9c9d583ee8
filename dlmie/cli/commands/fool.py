"""``dlmie fool``: a photograph changed imperceptibly until the network errs."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from dlmie.cli.console import Console
from dlmie.cli.images import find_source
from dlmie.cli.options import options_of, real, section, whole
from dlmie.cli.pictures import (
    animation_option,
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

TARGET = "dlmie.visualize.synthesis.adversarial:fool"


class _Options(TypedDict):
    """Options that are passed on unchanged."""

    method: str
    norm: str
    budget: float | None
    confidence: float
    steps: int
    rate: float | None
    magnify: float


@verb("fool", backends=True)
@click.argument("image", type=click.Path())
@click.option(
    "--target",
    help="The class to be seen, by number or name; of a captioner the sentence."
    "  [default: the second most likely]",
)
@captioner_option("and change its caption to a sentence")
@section(
    "The method",
    options_of(
        TARGET,
        method=("How.", click.Choice(["pgd", "fgsm", "step", "margin"])),
        norm=("What pgd and fgsm bound.", click.Choice(["linf", "l2"])),
        budget=("Largest change in gray levels.  [default: linf 8, l2 4]", real(0)),
        confidence=("Stop at this probability.", real(0, 1)),
        steps=("At most.", whole(1)),
        rate=("Length of a step.  [default: fit for the method]", real(0)),
        magnify=("Of the difference in the figure.", real(0)),
    ),
)
@picture_options("IMAGE-fool.png here")
@animation_option
@network_options
def command(
    console: Console,
    image: str,
    target: str | None,
    captioner: str | None,
    output: str | None,
    figure: str | None,
    animation: str | None,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    **options: Unpack[_Options],
) -> None:
    """Change the photograph IMAGE until the network sees another class, or a captioner finds
    a given sentence; people will not see a difference.

    For IMAGE, - stands for standard input.
    """
    from dlmie.visualize.synthesis.adversarial import fool

    source = find_source(image)
    path = output_path(console, output, image, "fool", [source], figure=figure, animation=animation)
    model = load_model(captioner, encoder, encoder_weights, encoder_preprocessing)
    with one_line_warnings(console):
        result = fool(
            model,
            source,
            target_of(target),
            frames=24 if animation else 0,
            seed=console.seed,
            progress=console.progress,
            **options,
        )
    found = result.manifest["results"]
    share = found.get("probability_after")
    now = found["said"] if share is None else f"{found['to']} {share:.1%}"
    text = (
        f"{image}: {found['from']}, now {now}; largest change {found['largest_change']:.0f} of 255"
    )
    write_picture(console, result, path, figure=figure, animation=animation, text=text)
