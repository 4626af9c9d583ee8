"""Which layers suit which picture, for networks of any kind."""

from __future__ import annotations

from collections.abc import Sequence

from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.visualize.ascent.inputs import image_size
from dlmie.visualize.ascent.objectives import layer_of


def map_layers(network: Network) -> list[str]:
    """The layers of maps after their activations, without pools and inner parts of blocks."""
    return [
        name
        for name, layer in network.variables.items()
        if layer.type.ndim == 4 and "/" not in name and not name.startswith("pool")
    ]


def last_at(network: Network, reduction: int) -> str:
    """The last layer whose maps are smaller than the image by ``reduction`` at most."""
    rows = image_size(network)[0]
    found = map_layers(network)
    if not found:
        raise DlmieError(f"{network.name} has no layer of maps")
    fitting = [n for n in found if (network[n].type.shape[2] or rows) * reduction >= 0.95 * rows]
    return fitting[-1] if fitting else found[0]


def each_scale(network: Network, reductions: Sequence[int] = (2, 4, 8, 16)) -> list[str]:
    """The last layer of each scale, from fine to coarse."""
    return list(dict.fromkeys(last_at(network, reduction) for reduction in reductions))


def as_layer(thing: Variable | Network, reduction: int) -> tuple[Network, str]:
    """A layer given as ``net["block5"]``, or the one that suits for a network alone."""
    if isinstance(thing, Network):
        return thing, last_at(thing, reduction)
    if not isinstance(thing, Variable):
        raise DlmieError(f"needs a network or its layer net['…'], not {type(thing).__name__}")
    return layer_of(thing)
