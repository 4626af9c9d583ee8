"""The options that choose an encoder and one of its layers, for several commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dlmie.cli.console import section, whole
from dlmie.models import ENCODERS
from dlmie.models.recipes import default_layer

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT = "efficientnet-lite0"  # its weights come with pip


def weights_option(function: F) -> F:
    """``--encoder-weights`` for a trained captioner: where its encoder's weight file is now."""
    return click.option(
        "--encoder-weights",
        type=click.Path(),
        help="Where the weight file of the encoder is now, if it is your own and was moved.",
    )(function)


def own_weights_option(function: F) -> F:
    """``--encoder-weights`` for a network: the weight file that it is made with."""
    return click.option(
        "--encoder-weights",
        type=click.Path(),
        help="The weight file of a network that dlmie does not bring; random: none.",
    )(function)


def encoder_options(function: F) -> F:
    """``--encoder --layer --image-size --encoder-weights``."""
    size = click.option(
        "--image-size",
        type=whole(16),
        help="Height and width at which the encoder sees images.  [default: its own]",
    )
    layer = click.option(
        "--layer", help="What the captioner sees.  [default: fit for captioner and encoder]"
    )
    encoder = click.option(
        "--encoder", type=click.Choice(list(ENCODERS)), default=DEFAULT, show_default=True,
        help="The network that sees the images.",
    )  # fmt: skip
    return section("Encoder", encoder, layer, size, own_weights_option)(function)


def make_network(
    name: str, layer: str | None, size: int | None, weights: str | None, *, grid: bool = False
) -> tuple[Any, str]:
    """The network that the options describe, and the name of its layer.

    Parameters
    ----------
    grid : bool
        Whether the default layer is one to attend to.
    """
    from dlmie import models

    # Asked before a large network is made for nothing.
    if weights is None and getattr(models, ENCODERS[name]).package is None:
        raise click.UsageError(
            f"dlmie does not bring weights of {name}: name your file with --encoder-weights "
            f"(or use --encoder {DEFAULT})"
        )
    options: dict[str, Any] = {}
    if size is not None:
        options["size"] = size
    if weights is not None:
        options["weights"] = None if weights == "random" else Path(weights)
    network = models.encoder(name, **options)
    layer = layer or default_layer(name, grid)
    network[layer]  # a clear error for an unknown layer
    return network, layer
