"""``dlmie caption``: captions for images and folders of images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from dlmie.cli.captioners import captioner_and_images
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
from dlmie.files.rows import Row


@verb("caption")
@click.argument("words", nargs=-1, required=True, metavar="[MODEL] IMAGES...")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table that spreadsheets open.")
@options_of("dlmie.captioning.decoding:Decoding", n_best=("Captions for each image.", whole(1)))
@options_of("dlmie.captioning.photographs:caption_images", batch=("Images at a time.", whole(1)))
@click.option("--strict", is_flag=True, help="Exit code 1 if any image cannot be read.")
@output_option("Write to this file, not to standard output.", name="output")
@weights_option
@decoding_options
def command(
    console: Console,
    words: tuple[str, ...],
    as_csv: bool,
    n_best: int,
    batch: int,
    strict: bool,
    output: str | None,
    encoder_weights: str | None,
    **options: Any,
) -> None:
    """Caption IMAGES: files, and folders with all images in them; - is one on standard input.

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie, which is
    used where none is named; several with commas between them decide together.

    Captions are printed as they are found. An image that cannot be read is left out and listed on
    standard error.
    """
    from dlmie.cli.output import ImageRun, form_of, open_writer

    kind = form_of(console, output, as_csv=as_csv)
    chosen = {**chosen_decoding(), "n_best": n_best, "seed": console.seed}
    from tqdm import tqdm

    import dlmie
    from dlmie.captioning.photographs import caption_images

    names, images = captioner_and_images(words)
    run = ImageRun(console, images, strict)
    captioner = dlmie.load(names, encoder_weights=encoder_weights)
    decoding = captioner.decoding(**chosen)
    console.outputs.reads(*(member.path for member in captioner.members))
    settings = {"models": model_hashes(captioner), **asdict(decoding), "batch": batch}
    head = ("image", "rank", "caption", "log_probability")
    with open_writer(console, kind, head, output, settings) as writer:
        there = {path for path in run.images if str(path) in writer}
        found = caption_images(captioner, run.images, decoding, batch=batch, done=there)
        bar = tqdm(total=len(run.images), initial=len(there), unit="image", leave=False,
                   disable=not console.progress or len(run.images) == 1)  # fmt: skip
        with bar:
            for path, captions in found:
                if isinstance(captions, Exception):
                    run.fault(captions)
                else:
                    with bar.external_write_mode():
                        if not captions[0].text:
                            console.warn(f"{path}: the caption is empty")
                        writer.add(describe(str(path), captions))
                bar.update()
    run.finish()


def model_hashes(captioner: Any) -> list[str]:
    """What tells one captioner from another: the SHA-256 of each of its files."""
    from dlmie.weights import sha256

    return [sha256(member.path) for member in captioner.members]


def describe(path: str, captions: list[Any]) -> Row:
    """One image's captions as JSON, as text and as rows of a table."""
    listed = [{"caption": c.text, "log_probability": c.log_probability} for c in captions]
    item = {"image": path, **listed[0], "n_best": listed}
    if len(captions) == 1:
        text = f"{path}: {captions[0].text}"
    else:
        text = "\n".join([path, *(f"  {c.log_probability:8.2f}  {c.text}" for c in captions)])
    rows = [[path, rank, c.text, c.log_probability] for rank, c in enumerate(captions, 1)]
    return Row(path, item, text, rows)
