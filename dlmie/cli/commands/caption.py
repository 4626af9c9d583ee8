"""``dlmie caption``: captions for images and folders of images."""

from __future__ import annotations

from typing import Any

import click

from dlmie.cli.console import (
    Console,
    chosen_decoding,
    decoding_options,
    options_of,
    output_option,
    verb,
    whole,
)
from dlmie.cli.encoders import weights_option


@verb("caption")
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--csv", "as_csv", is_flag=True, help="Print a table that spreadsheets open.")
@options_of("dlmie.captioning.decoding:Decoding", n_best=("Captions for each image.", whole(1)))
@options_of("dlmie.captioning.photographs:caption_images", batch=("Images at a time.", whole(1)))
@click.option("--strict", is_flag=True, help="Exit code 1 if any image cannot be read.")
@output_option("Write to this file, not to standard output.", name="output")
@weights_option
@decoding_options
def command(
    console: Console,
    model: str,
    images: tuple[str, ...],
    as_csv: bool,
    n_best: int,
    batch: int,
    strict: bool,
    output: str | None,
    encoder_weights: str | None,
    **options: Any,
) -> None:
    """Caption IMAGES: files, and folders with all images in them; - is one on standard input.

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie; several
    with commas between them decide together.

    Captions are printed as they are found. An image that cannot be read is left out and listed on
    standard error.
    """
    if as_csv and console.json:
        raise click.UsageError("--csv and --json exclude each other")
    chosen = {**chosen_decoding(), "n_best": n_best, "seed": console.seed}
    from tqdm import tqdm

    import dlmie
    from dlmie.captioning.photographs import caption_images
    from dlmie.cli.output import ImageRun, open_writer

    run = ImageRun(console, images, strict)
    captioner = dlmie.load(split_names(model), encoder_weights=encoder_weights)
    decoding = captioner.decoding(**chosen)
    kind = "csv" if as_csv else "json" if console.json else "text"
    head = ("image", "rank", "caption", "log_probability")
    done = tqdm(total=len(run.images), unit="image", leave=False,
                disable=not console.progress or len(run.images) == 1)  # fmt: skip
    with open_writer(console, kind, head, output) as writer, done:
        for path, captions in caption_images(captioner, run.images, decoding, batch=batch):
            if isinstance(captions, Exception):
                run.fault(captions)
            else:
                with done.external_write_mode():
                    writer.add(*describe(str(path), captions))
            done.update()
    run.finish()


def split_names(model: str) -> list[str]:
    """``a,b`` → two models; a name that exists with its comma stays one."""
    from pathlib import Path

    return [model] if Path(model).exists() else [name for name in model.split(",") if name]


def describe(path: str, captions: list[Any]) -> tuple[dict[str, Any], str, list[list[Any]]]:
    """One image's captions as JSON, as text and as rows of a table."""
    listed = [{"caption": c.text, "log_probability": c.log_probability} for c in captions]
    item = {"image": path, **listed[0], "n_best": listed}
    if len(captions) == 1:
        text = f"{path}: {captions[0].text}"
    else:
        text = "\n".join([path, *(f"  {c.log_probability:8.2f}  {c.text}" for c in captions)])
    rows = [[path, rank, c.text, c.log_probability] for rank, c in enumerate(captions, 1)]
    return item, text, rows
