"""``dlmie export``: a trained captioner as one small file."""

from __future__ import annotations

import click

from dlmie.cli.common import Console, output_option, verb
from dlmie.cli.signatures import parameters


@verb("export")
@click.argument("sources", metavar="RUN|FILE|NAME...", nargs=-1, required=True)
@output_option("The file to write.", required=True)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default=parameters("dlmie.hub:export")["dtype"].default,
    show_default=True,
    help="How the weights are stored; float16 halves the file and hardly moves the scores.",
)
def command(console: Console, sources: tuple[str, ...], to: str, dtype: str) -> None:
    """Write a trained captioner as one small file to hand out.

    Of several that learned on from one and the same, the mean of their weights is written.

    \b
    dlmie export runs/sat --to captioner.h5
    dlmie caption captioner.h5 photo.jpg
    """
    from dlmie import hub

    path = hub.export(sources, to, dtype=dtype)
    size = path.stat().st_size
    console.result({"model": path, "bytes": size}, f"{path}: {size / 1e6:.1f} MB")
