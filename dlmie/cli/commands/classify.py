"""``dlmie classify``: the classes that a network sees in images."""

from __future__ import annotations

from dataclasses import asdict

import click

from dlmie.cli.console import Console
from dlmie.cli.encoders import DEFAULT, make_network, own_weights_option
from dlmie.cli.options import options_of, whole
from dlmie.cli.verbs import output_option, verb
from dlmie.files.rows import Row
from dlmie.models import ENCODERS


@verb("classify")
@click.argument("images", nargs=-1, type=click.Path())
@click.option("--list", "listing", is_flag=True, help="Only say which classes there are.")
@click.option("--encoder", type=click.Choice(list(ENCODERS)), default=DEFAULT, show_default=True,
              help="The network.")  # fmt: skip
@own_weights_option
@options_of(
    "dlmie.captioning.photographs:classify_images",
    top=("Classes named for each image.", whole(1)),
    batch=("Images at a time.", whole(1)),
)
@click.option("--strict", is_flag=True, help="Exit code 1 if any image cannot be read.")
@output_option("Write to this file, not to standard output.", name="output")
def command(
    console: Console,
    images: tuple[str, ...],
    listing: bool,
    encoder: str,
    encoder_weights: str | None,
    encoder_preprocessing: str | None,
    top: int,
    batch: int,
    strict: bool,
    output: str | None,
) -> None:
    """Name what IMAGES show: files, and folders with all images in them; - is standard input.

    The default network knows the 1,000 classes of ImageNet.
    """
    from dlmie.captioning.photographs import classify_images
    from dlmie.cli.output import ImageRun, form_of, open_writer

    if listing:
        _list_classes(console, encoder, encoder_weights)
        return
    if not images:
        raise click.UsageError("name at least one image (or --list)")
    run = ImageRun(console, images, strict)
    network, _ = make_network(
        encoder, "probabilities", None, encoder_weights, preprocessing=encoder_preprocessing
    )
    kind = form_of(console, output)
    if kind == "csv":
        raise click.UsageError(f"--output {output}: classify writes text or JSON, no tables")
    settings = {
        "encoder": encoder,
        "weights": network.weights,
        **network.options,
        "top": top,
        "batch": batch,
    }
    with open_writer(console, kind, (), output, settings) as writer:
        found = classify_images(network, run.images, top=top, batch=batch, done=run.done(writer))
        for path, guesses in found:
            if isinstance(guesses, Exception):
                run.fault(path, guesses, writer)
                continue
            lines = [f"  {100 * g.probability:5.1f} %  {g.label}" for g in guesses]
            item = {"image": str(path), "top": [asdict(g) for g in guesses]}
            writer.add(Row(str(path), item, "\n".join([str(path), *lines]), ()))
    run.finish()


def _list_classes(console: Console, encoder: str, weights: str | None) -> None:
    network, _ = make_network(encoder, "probabilities", None, weights)
    known = network.classes or [f"class {i}" for i in range(network["logits"].type.shape[1])]
    lines = [f"{number:>4}  {name}" for number, name in enumerate(known)]
    console.result(known, "\n".join(lines))
