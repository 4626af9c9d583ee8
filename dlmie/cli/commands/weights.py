"""``dlmie weights``: what the first layer of a classifier weighs, as images."""

from __future__ import annotations

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import FIGURES, claim_drawing
from dlmie.cli.options import whole
from dlmie.cli.verbs import output_option, verb
from dlmie.errors import DlmieError


@verb("weights")
@click.argument("model", type=click.Path())
@output_option("The picture, .png, .jpg, .pdf or .svg.", required=True)
@click.option("--columns", type=whole(1), help="Images side by side.")
def command(console: Console, model: str, to: str, columns: int | None) -> None:
    """Show the weights of the first layer of MODEL, a trained classifier, as images.

    Of linear models these are the templates of the classes, of convolutional networks their
    filters, of others the weights of each hidden unit. Each is drawn from black, its smallest
    weight, to white, its largest.
    """
    path = claim_drawing(console, "--to", to, FIGURES)
    from dlmie import classification
    from dlmie.trained import role_of
    from dlmie.visualize.figures.classifiers import weight_images

    if role_of(model) != "classifier":
        raise DlmieError(f"{model} is not a classifier")
    loaded = classification.load(model)
    templates = loaded.templates
    names = loaded.classes if len(templates) == len(loaded.classes) else ()
    weight_images(templates, names, columns=columns).save(path)
    console.result({"output": path, "units": len(templates)}, f"{len(templates)} → {to}")
