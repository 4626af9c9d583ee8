"""``dlmie sample``: images of a trained generator."""

from __future__ import annotations

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import ANIMATIONS, PICTURES, claim_drawing
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import OutputOption, output_option, verb


@verb("sample", backends=True)
@click.argument("generator", type=click.Path())
@output_option("The picture to make: .png or .jpg.")
@click.option(
    "--animation",
    cls=OutputOption,
    type=click.Path(),
    help="Also how the images changed during training, .gif; GENERATOR must be a run.",
)
@options_of(
    "dlmie.generation.sampling:sample",
    count=("How many images.", whole(1)),
    columns=("Images in a row.  [default: for a square sheet]", whole(1)),
    between="Make each row an interpolation between two noise vectors.",
    scale=("Enlarge each pixel to N × N.", whole(1, 32)),
)
def command(
    console: Console,
    generator: str,
    to: str | None,
    animation: str | None,
    count: int,
    columns: int | None,
    between: bool,
    scale: int,
) -> None:
    """Make images with GENERATOR, a run or a model file.

    \b
    dlmie sample runs/dc-gan --to digits.png --count 64
    dlmie sample runs/dc-gan --animation training.gif
    """
    if to is None and animation is None:
        raise click.UsageError("say what to make: --to picture.png, --animation training.gif")
    if to is not None:
        claim_drawing(console, "--to", to, PICTURES)
    if animation is not None:
        claim_drawing(console, "--animation", animation, ANIMATIONS)
    from dlmie.generation import sampling

    if to is not None:
        sheet = sampling.sample(
            generator,
            count=count,
            columns=columns,
            between=between,
            seed=console.seed,
            scale=scale,
        )
        sheet.save(to)
    if animation is not None:
        sampling.animation(generator, scale=scale).save(animation)
    document = {"picture": to, "animation": animation, "seed": console.seed}
    console.result(document, ", ".join(path for path in (to, animation) if path is not None))
