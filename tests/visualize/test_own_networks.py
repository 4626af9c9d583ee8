"""Pictures of a network of one's own: they are made, or one line says what the network lacks."""

from __future__ import annotations

import numpy as np
import pytest
from pytensor.graph.basic import Variable
from small_networks import Small, photo

from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, image_input
from dlmie.layers import Conv2D, Linear
from dlmie.ops.conv.activation import relu
from dlmie.ops.pool.pool import global_average_pool
from dlmie.visualize import dream, invert, saliency, visualize


class Own(Network):
    """As little as a network needs: no name, no classes, no other activation."""

    def __init__(self, preprocessing: Preprocessing | None = None) -> None:
        rng = np.random.default_rng(0)
        self.conv = Conv2D("/own/conv", 3, 4, 3, padding=1, rng=rng)
        self.linear = Linear("/own/linear", 4, 3, rng=rng)
        self.preprocessing = preprocessing
        super().__init__(image_input(16))

    def build(self, x: Variable) -> dict[str, Variable]:
        layers = {"conv": relu(self.conv(x))}
        layers["logits"] = self.linear(global_average_pool(layers["conv"]))
        return layers


def test_it_must_say_how_it_reads_pixels() -> None:
    own = Own()
    message = r"^Own does not say how it reads pixels: set its preprocessing, such as .*224"
    for make in (
        lambda: saliency(own, photo(), 1),
        lambda: dream(own["conv"], photo(64, 64)),
        lambda: invert(own["conv"], photo()),
    ):
        with pytest.raises(DlmieError, match=message):
            make()


def test_saliency_of_it() -> None:
    own = Own(Preprocessing(16, (127.0,) * 3, (128.0,) * 3))
    figure = saliency(own, photo(20, 30), 1, method="gradient")
    assert figure.arrays["map"].shape == (20, 30)
    assert figure.manifest["network"]["name"] == "Own"
    with pytest.raises(DlmieError, match=r"Own cannot be built with another .*relu=None"):
        saliency(own, photo(), 1, method="guided")


def test_a_layer_is_not_an_objective(small: Small) -> None:
    with pytest.raises(DlmieError, match=r"an objective, such as channel\(.*not TensorVariable"):
        visualize(small["conv2"])  # type: ignore[arg-type]
