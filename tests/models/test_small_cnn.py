"""The small network that learns along: its grid, its shortcuts, and that it knows where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest

from dlmie.captioning.features import encoder_from_header, encoder_header
from dlmie.graph.network import image_input
from dlmie.models import SmallCNN


def value(layer: Any, given: Any, x: np.ndarray) -> np.ndarray:
    """By PyTensor's own evaluation: nothing is compiled to C."""
    with pytensor.config.change_flags(mode="FAST_COMPILE", linker="py"):
        found: np.ndarray = layer.eval({given: x})
    return found


def test_layers() -> None:
    net = SmallCNN()
    shapes = {
        "conv1": (24, 64, 64), "conv2": (32, 32, 32), "conv3": (32, 32, 32),
        "conv4": (64, 16, 16), "conv6": (64, 16, 16), "conv7": (96, 8, 8), "conv8": (96, 8, 8),
        "pool": (96,), "logits": (10,),
    }  # fmt: skip
    for layer, shape in shapes.items():
        assert net[layer].type.shape == (None, *shape)
    assert net.parameters[0].type.shape == (24, 5, 3, 3)  # colors, row and column


def test_shortcuts_where_nothing_changes_its_size() -> None:
    net = SmallCNN(size=16)
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype("float32")
    for layer, before, shortcut in (("conv3", "conv2", True), ("conv4", "conv3", False)):
        y, pre, skipped = (value(net[n], net.input, x) for n in (layer, f"{layer}/pre", before))
        expected = np.maximum(pre, 0) + (skipped if shortcut else 0)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_an_even_image_looks_different_everywhere() -> None:
    net = SmallCNN()
    view = net.on(image_input(None))
    # Away from the borders, whose zeros would tell as well.
    inner = value(view["conv1"], view.input, np.zeros((1, 3, 20, 30), "float32"))[0, :, 4:-4, 4:-4]
    assert np.ptp(inner, axis=1).max() > 0.1
    assert np.ptp(inner, axis=2).max() > 0.1


def test_rows_and_columns_go_from_minus_one_to_one() -> None:
    net = SmallCNN()
    x = pt.tensor("x", dtype="float32", shape=(None, 3, None, None))
    joined = net.on(x)["conv1/pre"].owner.inputs[0]
    seen = value(joined, x, np.zeros((2, 3, 4, 8), "float32"))
    np.testing.assert_allclose(seen[1, 3, :, 0], [-0.75, -0.25, 0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(seen[1, 4, 0, ::7], [-0.875, 0.875], rtol=1e-6)


def test_other_filters_come_back_from_the_header_of_features() -> None:
    net = SmallCNN(filters=(2, 3, 3, 4, 4, 4, 5, 5))
    assert encoder_header(SmallCNN(), "conv8").get("options") is None
    header = encoder_header(net, "conv8")
    again = encoder_from_header(header)
    assert [p.type.shape for p in again.parameters] == [p.type.shape for p in net.parameters]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype: str) -> None:
    assert SmallCNN(dtype=dtype)["conv8"].type.dtype == dtype
