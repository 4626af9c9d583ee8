"""The options that choose an encoder and one of its layers, for several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dlmie.cli.options import F, section, whole
from dlmie.models.encoders.preprocessings import PREPROCESSINGS
from dlmie.models.registry import names

if TYPE_CHECKING:
    from dlmie.models.encoders.image_network import ImageNetwork

DEFAULT = "efficientnet-lite0"  # its weights come with pip


def weights_option(function: F) -> F:
    """``--encoder-weights`` for a trained captioner: where its encoder's weight file is now."""
    return click.option(
        "--encoder-weights",
        type=click.Path(),
        help="Where the weight file of the encoder is now, if it is your own and was moved.",
    )(function)


def own_weights_option(function: F) -> F:
    """``--encoder-weights --encoder-preprocessing``: what a network is made with."""
    weights = click.option(
        "--encoder-weights",
        type=click.Path(),
        help="The weight file of a network that dlmie does not bring; random: none.",
    )
    preprocessing = click.option(
        "--encoder-preprocessing",
        type=click.Choice([*PREPROCESSINGS]),
        help="What the weights expect of images.  [default: what their file says]",
    )
    return weights(preprocessing(function))


def encoder_options(function: F) -> F:
    """``--encoder --layer --image-size --output-stride``, and :func:`own_weights_option`."""
    size = click.option(
        "--image-size",
        type=whole(16),
        help="Height and width at which the encoder sees images.  [default: its own]",
    )
    stride = click.option(
        "--output-stride",
        type=click.Choice([32, 16]),
        help="Pixels between cells of EfficientNet-Lite's last blocks; 16: a grid twice as fine.",
    )
    layer = click.option(
        "--layer",
        help="What the captioner sees; block4+block10 joins layers.  [default: fit for captioner "
        "and encoder]",
    )
    encoder = click.option(
        "--encoder", type=click.Choice(names("encoder")), default=DEFAULT, show_default=True,
        help="The network that sees the images.",
    )  # fmt: skip
    return section("Encoder", encoder, layer, size, stride, own_weights_option)(function)


def make_network(
    name: str,
    layer: str | None,
    size: int | None,
    weights: str | None,
    *,
    output_stride: int | None = None,
    preprocessing: str | None = None,
) -> tuple[ImageNetwork, str]:
    """The network that the options describe, and the name of its layer: see ``select``."""
    from dlmie.models.encoders.selection import select

    return select(
        name,
        layer=layer,
        size=size,
        weights=weights,
        output_stride=output_stride,
        preprocessing=preprocessing,
    )
