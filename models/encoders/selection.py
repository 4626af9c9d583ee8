"""An encoder and one of its layers, from a user's options."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path

from dlmie.errors import MisuseError
from dlmie.models import registry
from dlmie.models.encoders.image_network import ImageNetwork

DEFAULT = "efficientnet-lite0"  # its weights come with pip


def select(
    name: str = DEFAULT,
    *,
    layer: str | None = None,
    size: int | None = None,
    weights: str | None = None,
    output_stride: int | None = None,
    preprocessing: str | None = None,
    grid: bool = False,
) -> tuple[ImageNetwork, str]:
    """The network that is described, and the name of its layer.

    Parameters
    ----------
    name : str
        In the registry.
    layer : str, optional
        By default one that suits a captioner.
    size : int, optional
        Height and width at which it sees images; default: its own.
    weights : path, optional
        A weight file of the user's; "random" for none; default: those of a Python package.
    output_stride : int, optional
        Of an EfficientNet-Lite: 16 for a grid twice as fine.
    preprocessing : str, optional
        What the user's weights expect of images, such as "caffe"; default: what their file says.
    grid : bool
        Whether the default layer is one to attend to.

    Raises
    ------
    MisuseError
        The network's weights are in no package and no file was named; an output stride of a network
        that has no choice.
    DlmieError
        An unknown network or layer.
    """
    network_class = registry.model_class(name, "encoder")
    # Asked before a large network is made for nothing.
    if weights is None and network_class.package is None:
        raise MisuseError(
            f"dlmie does not bring weights of {name}: name your file with --encoder-weights "
            f"(or use --encoder {DEFAULT})"
        )
    options: dict[str, object] = {}
    if output_stride is not None:
        if "output_stride" not in signature(network_class).parameters:
            raise MisuseError(f"--output-stride is an option of EfficientNet-Lite, not of {name}")
        options["output_stride"] = output_stride
    if preprocessing is not None:
        options["preprocessing"] = preprocessing
    if size is not None:
        options["size"] = size
    if weights is not None:
        options["weights"] = None if weights == "random" else Path(weights)
    make: Callable[..., ImageNetwork] = network_class
    network = make(**options)
    layer = layer or registry.default_layer(name, grid=grid)
    network[layer]  # a clear error for an unknown layer
    return network, layer
