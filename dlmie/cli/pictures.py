"""What the commands that make pictures share: their network, what they write and print."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console
from dlmie.cli.drawings import ANIMATIONS, FIGURES, PICTURES, claim_picture
from dlmie.cli.encoders import DEFAULT, make_network, own_weights_option
from dlmie.cli.images import stem_of
from dlmie.cli.options import F, section
from dlmie.cli.verbs import OutputOption, output_option
from dlmie.data.images import ImageBytes
from dlmie.models import ENCODERS
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable

    from dlmie.graph.network import Network
    from dlmie.models.encoders.image_network import ImageNetwork
    from dlmie.visualize.ascent.models import Model
    from dlmie.visualize.figures.figure import Figure


def network_options(function: F) -> F:
    """``--encoder``, and what it is made with: whose pictures."""
    encoder = click.option(
        "--encoder", type=click.Choice(list(ENCODERS)), default=DEFAULT, show_default=True,
        help="The network.",
    )  # fmt: skip
    return section("Network", encoder, own_weights_option)(function)


def picture_options(default: str) -> Callable[[F], F]:
    """``--output --figure --animation``: what is written."""
    output = output_option(f"The picture, .png or .jpg.  [default: {default}]", name="output")
    figure = click.option(
        "--figure", cls=OutputOption, type=click.Path(),
        help="Also a labeled figure: .png, .pdf or .svg.",
    )  # fmt: skip
    return section("What is written", output, figure)


def animation_option(function: F) -> F:
    """``--animation``: a GIF of the way there."""
    return click.option(
        "--animation", cls=OutputOption, type=click.Path(),
        help="Also an animation of the making: .gif.",
    )(function)  # fmt: skip


def load_network(
    encoder: str, weights: str | None, preprocessing: str | None = None
) -> ImageNetwork:
    """The network that the options name."""
    network, _ = make_network(encoder, None, None, weights, preprocessing=preprocessing)
    return network


def captioner_option(what: str) -> Callable[[F], F]:
    """``--captioner``: not a classifier is asked."""
    text = f"Ask a captioner, not a classifier, {what}: its name, run or model file."
    return click.option("--captioner", help=text)


def load_model(
    captioner: str | None, encoder: str, weights: str | None, preprocessing: str | None
) -> Model:
    """The captioner that the options name, else the network."""
    if captioner is None:
        return load_network(encoder, weights, preprocessing)
    if preprocessing is not None:
        raise click.UsageError("--encoder-preprocessing does not go with --captioner")
    from dlmie.captioning import load

    return load(captioner, encoder_weights=weights)


def layer_by_name(network: Network, names: str | None) -> Network | Variable | list[Variable]:
    """The layer, or list of layers with commas between them; the network itself for None."""
    if names is None:
        return network
    layers = [network[name.strip()] for name in names.split(",")]
    return layers[0] if len(layers) == 1 else layers


def target_of(text: str | None) -> int | str | None:
    """A class or word as typed: digits are a number."""
    return int(text) if text is not None and text.isdecimal() else text


def output_path(
    console: Console,
    output: str | None,
    image: str | None,
    verb: str,
    sources: Sequence[Path | ImageBytes | None] = (),
    *,
    figure: str | None = None,
    animation: str | None = None,
) -> Path:
    """Where the picture goes: ``--output``, or ``cat-saliency.png`` in this folder.

    It is claimed, and what goes with it, before the work begins, beside the images that are read.

    Raises
    ------
    click.UsageError
        A suffix does not fit.
    OutputError
        A file would be lost.
    """
    console.outputs.reads(*(source for source in sources if isinstance(source, Path)))
    path = Path(output or (f"{stem_of(image)}-{verb}.png" if image else f"{verb}.png"))
    claim_picture(console, "--output", path, PICTURES)
    if figure is not None:
        claim_picture(console, "--figure", figure, FIGURES)
    if animation is not None:
        claim_picture(console, "--animation", animation, ANIMATIONS)
    return path


@contextlib.contextmanager
def one_line_warnings(console: Console, prefix: str = "") -> Iterator[None]:
    """Print warnings about a picture in one line each, after a prefix, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in {str(w.message): w for w in caught}.values():
        if warning.category.__module__.startswith("dlmie"):
            console.warn(f"{prefix}{warning.message}")
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def write_picture(
    console: Console,
    picture: Figure,
    path: Path,
    *,
    figure: str | None = None,
    animation: str | None = None,
    text: str = "",
) -> None:
    """Write a picture, its manifest and what else was asked for, and print where."""
    from dlmie.visualize.figures.manifests import manifest_path

    item: JsonObject = {"output": str(picture.save(path))}
    item["manifest"] = str(manifest_path(path))
    if figure is not None:
        item["figure"] = str(picture.figure().save(figure))
    if animation is not None:
        item["animation"] = str(picture.save(animation))
    item |= {"picture": picture.manifest["picture"], **picture.manifest["results"]}
    console.result(item, f"{text}  → {path}" if text else str(path))
