"""``dlmie export``: a trained captioner as one small file."""

from __future__ import annotations

import click

from dlmie.cli.captioners import split_names
from dlmie.cli.console import Console
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.signatures import parameters
from dlmie.cli.verbs import output_option, verb
from dlmie.files.outputs import MODEL


@verb("export")
@click.argument("sources", metavar="RUN|FILE|NAME...", nargs=-1, required=True)
@output_option("The file to write.", required=True)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default=parameters("dlmie.captioning.model_files:export")["dtype"].default,
    show_default=True,
    help="How the weights are stored; float16 halves the file and hardly moves the scores.",
)
@click.option(
    "--average-flip/--no-average-flip",
    default=None,
    help="Let it see the mean of each photograph and its mirror image: twice the work of the "
    "encoder, fewer mistakes.  [default: as it was]",
)
@click.option(
    "--class-words",
    type=click.FloatRange(min=0),
    metavar="X",
    help="What words gain that name what the encoder's own classifier sees; 0: nothing.  "
    "[default: as it was]",
)
@decoding_options
def command(
    console: Console,
    sources: tuple[str, ...],
    to: str,
    dtype: str,
    average_flip: bool | None,
    class_words: float | None,
    **_: object,
) -> None:
    """Write a trained captioner as one small file to hand out.

    For several that were trained further from the same model, the mean of their weights is written.
    Decoding options given here become the defaults of the file.

    \b
    dlmie export runs/sat --to captioner.h5
    dlmie caption captioner.h5 photo.jpg
    """
    decoding = chosen_decoding()
    from dlmie import captioning

    names = [name for source in sources for name in split_names(source)]
    console.outputs.reads(*(captioning.find_model(name) for name in names))
    console.outputs.writes(to, MODEL)
    path = captioning.export(
        names,
        to,
        dtype=dtype,
        average_flip=average_flip,
        class_words=class_words,
        decoding=decoding,
    )
    size = path.stat().st_size
    console.result({"model": path, "bytes": size}, f"{path}: {size / 1e6:.1f} MB")
