"""What the commands that make pictures share: their network, what they write and what they say."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dlmie.cli.console import Console, output_option, section
from dlmie.cli.encoders import DEFAULT, make_network, own_weights_option
from dlmie.cli.images import stem_of
from dlmie.models import ENCODERS

if TYPE_CHECKING:
    from dlmie.visualize.figures.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])


def network_options(function: F) -> F:
    """``--encoder --encoder-weights``: whose pictures."""
    encoder = click.option(
        "--encoder", type=click.Choice(list(ENCODERS)), default=DEFAULT, show_default=True,
        help="The network.",
    )  # fmt: skip
    return section("Network", encoder, own_weights_option)(function)


def picture_options(default: str) -> Callable[[F], F]:
    """``--output --figure --animation``: what is written."""
    output = output_option(f"The picture, .png or .jpg.  [default: {default}]", name="output")
    figure = click.option(
        "--figure", type=click.Path(), help="Also a labelled figure: .png, .pdf or .svg."
    )
    return section("What is written", output, figure)


def animation_option(function: F) -> F:
    """``--animation``: a GIF of the way there."""
    return click.option(
        "--animation", type=click.Path(), help="Also an animation of the making: .gif."
    )(function)


def load_network(encoder: str, weights: str | None) -> Any:
    """The network that the options name."""
    network, _ = make_network(encoder, None, None, weights)
    return network


def captioner_option(what: str) -> Callable[[F], F]:
    """``--captioner``: not a classifier is asked."""
    text = f"Ask a captioner, not a classifier, {what}: its name, run or model file."
    return click.option("--captioner", help=text)


def load_model(captioner: str | None, encoder: str, weights: str | None) -> Any:
    """The captioner that the options name, else the network."""
    if captioner is None:
        return load_network(encoder, weights)
    import dlmie

    return dlmie.load(captioner, encoder_weights=weights)


def layer_by_name(network: Any, names: str | None) -> Any:
    """The layer, or list of layers with commas between them; the network itself for None."""
    if names is None:
        return network
    layers = [network[name.strip()] for name in names.split(",")]
    return layers[0] if len(layers) == 1 else layers


def target_of(text: str | None) -> int | str | None:
    """A class or word as typed: digits are a number."""
    return int(text) if text is not None and text.isdecimal() else text


def output_path(output: str | None, image: str | None, verb: str) -> Path:
    """Where the picture goes: ``--output``, or ``cat-saliency.png`` in this folder."""
    if output is not None:
        path = Path(output)
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise click.UsageError(f"--output {output} must end in .png or .jpg")
        return path
    return Path(f"{stem_of(image)}-{verb}.png" if image else f"{verb}.png")


@contextlib.contextmanager
def one_line_warnings(console: Console, prefix: str = "") -> Iterator[None]:
    """Say warnings about a picture in one line each, after a prefix."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
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
    """Write a picture, its manifest and what else was asked for, and say so."""
    from dlmie.visualize.figures.manifests import manifest_path

    item: dict[str, Any] = {"output": str(picture.save(path))}
    item["manifest"] = str(manifest_path(path))
    if figure is not None:
        item["figure"] = str(picture.figure().save(figure))
    if animation is not None:
        if Path(animation).suffix.lower() != ".gif":
            raise click.UsageError(f"--animation {animation} must end in .gif")
        item["animation"] = str(picture.save(animation))
    item |= {"picture": picture.manifest["picture"], **picture.manifest["results"]}
    console.result(item, f"{text}  → {path}" if text else str(path))
