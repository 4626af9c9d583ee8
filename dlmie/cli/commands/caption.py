"""``dlmie caption``: captions for images and folders of images."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dlmie.cli.captioners import captioner_and_images
from dlmie.cli.console import Console
from dlmie.cli.decoding import chosen_decoding, decoding_options
from dlmie.cli.encoders import weights_option
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.rows import Row
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.captioning.captioner import ImageCaptioner
    from dlmie.captioning.decoding import Caption


@verb("caption", backends=True)
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
    **_: object,
) -> None:
    """Caption IMAGES: files, and folders with all images in them; - is one on standard input.

    MODEL is a run folder, a model file or the name of a captioner that comes with dlmie (by default
    flickr8k-coco); several with commas between them decide together.

    Captions are printed as they are found. An image that cannot be read is left out and listed on
    standard error.
    """
    from dlmie.cli.output import ImageRun, form_of, open_writer

    kind = form_of(console, output, as_csv=as_csv)
    chosen = {**chosen_decoding(), "n_best": n_best, "seed": console.seed}
    from dlmie.captioning import compiled_captioners
    from dlmie.captioning.photographs import caption_images
    from dlmie.progress import Bar

    names, images = captioner_and_images(words)
    run = ImageRun(console, images, strict)
    captioner = compiled_captioners.load(names, encoder_weights=encoder_weights)
    decoding = captioner.decoding(**chosen)
    console.outputs.reads(*(member.path for member in captioner.members))
    settings = {"models": model_hashes(captioner), **asdict(decoding), "batch": batch}
    head = ("image", "rank", "caption", "log_probability", "score", "word_probabilities")
    with open_writer(console, kind, head, output, settings) as writer:
        there = run.done(writer)
        found = caption_images(captioner, run.images, decoding, batch=batch, done=there)
        bar = Bar(total=len(run.images), initial=len(there), unit="image", leave=False,
                  disable=not console.progress or len(run.images) == 1)  # fmt: skip
        with bar:
            for number, (path, captions) in enumerate(found):
                if number == 0:
                    bar.unpause()  # the time left is not that of compiling
                if isinstance(captions, Exception):
                    run.fault(path, captions, writer)
                else:
                    with bar.external_write_mode():
                        if not captions[0].text:
                            console.warn(f"{path}: the caption is empty")
                        writer.add(describe(str(path), captions))
                bar.update()
    compiled_captioners.keep(captioner)
    run.finish()


def model_hashes(captioner: ImageCaptioner) -> list[str]:
    """What tells one captioner from another: the SHA-256 of each of its files."""
    from dlmie.weights import sha256

    return [sha256(member.path) for member in captioner.members]


def describe(path: str, captions: list[Caption]) -> Row:
    """One image's captions as JSON, as text and as rows of a table."""
    listed = [_numbers(caption) for caption in captions]
    item = {"image": path, **listed[0], "n_best": listed}
    if len(captions) == 1:
        text = f"{path}: {captions[0].text}"
    else:
        text = "\n".join([path, *(f"  {c.score:8.4f}  {c.text}" for c in captions)])
    rows = [
        [
            *(path, rank, each["caption"], each["log_probability"], each["score"]),
            " ".join(str(probability) for _, probability in each["words"]),
        ]
        for rank, each in enumerate(listed, 1)
    ]
    return Row(path, item, text, rows)


def _numbers(caption: Caption) -> JsonObject:
    """A caption with what ranks it, and the probability of each word and of the end."""
    logs = [] if caption.word_logs is None else caption.word_logs.tolist()
    words = [*caption.labels, *(["<end>"] if caption.finished else [])] if logs else []
    return {
        "caption": caption.text,
        "log_probability": round(caption.log_probability, 4),
        "score": round(caption.score, 4),
        "words": [[word, round(math.exp(log), 4)] for word, log in zip(words, logs, strict=True)],
    }
