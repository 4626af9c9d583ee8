"""``dlmie sample``: images of a trained generator."""

from __future__ import annotations

import click

from dlmie.cli.console import Console
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import OutputOption, output_option, verb
from dlmie.files.outputs import PICTURE


@verb("sample")
@click.argument("generator", type=click.Path())
@output_option("The picture to make: .png or .jpg.")
@click.option(
    "--animation",
    cls=OutputOption,
    type=click.Path(),
    help="Also how images of one noise changed in training, .gif; GENERATOR must be a run.",
)
@options_of(
    "dlmie.generation.sampling:sample",
    count=("How many images.", whole(1)),
    columns=("Beside each other.  [default: as many as below each other]", whole(1)),
    between="Rows that go from one noise to another in equal steps.",
    scale=("Each pixel becomes so many high and wide.", whole(1, 32)),
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
    places = {
        "picture": None if to is None else console.outputs.writes(to, PICTURE),
        "animation": None if animation is None else console.outputs.writes(animation, PICTURE),
    }
    if animation is not None and not animation.lower().endswith(".gif"):
        raise click.UsageError(f"--animation {animation}: an animation is saved as .gif")
    from dlmie.generation import sampling

    if places["picture"] is not None:
        sheet = sampling.sample(
            generator,
            count=count,
            columns=columns,
            between=between,
            seed=console.seed,
            scale=scale,
        )
        sheet.save(places["picture"])
    if places["animation"] is not None:
        sampling.animation(generator, scale=scale).save(places["animation"])
    made = [str(path) for path in places.values() if path is not None]
    console.result({**places, "seed": console.seed}, ", ".join(made))
