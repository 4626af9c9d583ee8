"""Several layers of a network as one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.errors import DlmieError
from dlmie.graph.joining import join_layers
from dlmie.graph.network import Network


class Pyramid(Network):
    """Three grids and a vector."""

    def build(self, x: Any, *args: Any, **options: Any) -> dict[str, Any]:
        fine, coarse = x * 2, x[:, :, ::2, ::2] + 1
        return {"fine": fine, "coarse": coarse, "same": -coarse, "vector": x.mean(axis=(2, 3))}


def pyramid(size: int | None = 4) -> Pyramid:
    return Pyramid(pt.tensor("x", dtype="float64", shape=(None, 3, size, size)))


def images(size: int = 4) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, size, size))


@pytest.mark.parametrize("size", [4, None])
def test_finer_grids_are_averaged_over_the_cells_of_the_coarsest(size: int | None) -> None:
    net = pyramid(size)
    joined = net["fine+coarse"]
    x = images()
    found = dlmie.function([net.input], joined)(x)
    fine = 2 * x.reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(found, np.concatenate([fine, x[:, :, ::2, ::2] + 1], 1), atol=1e-12)
    grid = (2, 2) if size else (None, None)
    assert joined.type.shape == (None, 6, *grid)


def test_means_are_by_area_where_cells_do_not_coincide() -> None:
    x, y = pt.tensor4("x", dtype="float64"), pt.tensor4("y", dtype="float64")
    joined = dlmie.function([x, y], join_layers({"x": x, "y": y}))
    ramp = np.arange(5.0)[None, None, None] + 10 * np.arange(3.0)[None, None, :, None]
    found = joined(ramp, np.zeros((1, 1, 2, 2)))[0, 0]
    across = [(0 + 1 + 2 / 2) / 2.5, (2 / 2 + 3 + 4) / 2.5]
    down = [(0 + 10 / 2) / 1.5, (10 / 2 + 20) / 1.5]
    np.testing.assert_allclose(found, np.add.outer(down, across), atol=1e-12)


def test_a_joined_layer_is_a_layer() -> None:
    net = pyramid()
    joined = net["coarse+same"]
    assert net["coarse+same"] is joined
    assert (joined.tag.network, joined.tag.layer) == (net, "coarse+same")
    assert "coarse+same" in net
    assert "coarse+none" not in net
    assert list(net) == ["fine", "coarse", "same", "vector"]
    x = pt.tensor4("other", dtype="float64")
    assert net.on(x)["fine+same"].tag.layer == "fine+same"


def test_what_cannot_be_joined_is_named() -> None:
    net = pyramid()
    with pytest.raises(DlmieError, match=r"fine\+vector: grids and vectors cannot be joined"):
        net["fine+vector"]
    with pytest.raises(DlmieError, match=r"has no layer 'fine2'; did you mean 'fine'"):
        net["fine2+coarse"]
    with pytest.raises(DlmieError, match="names a layer twice"):
        net["fine+fine"]
    with pytest.raises(DlmieError, match=r"no layers follow from fine\+coarse alone"):
        net.after("fine+coarse")
