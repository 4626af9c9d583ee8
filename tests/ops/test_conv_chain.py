"""Chains of convolutions: when functions have them, and that they change nothing but speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytest
from conv_cases import symbols

from dlmie.compilation import function, get_threads, set_threads
from dlmie.graph.network import parameter
from dlmie.ops.conv.activation import relu6
from dlmie.ops.conv.chain import ConvolutionChain
from dlmie.ops.conv.conv import conv2d


class Blocks:
    """A first layer and inverted residual blocks with random weights; no layer is a round number.

    Parameters
    ----------
    repeats : int
        Blocks whose input is added to their output.
    """

    def __init__(self, dtype: str = "float32", *, repeats: int = 2) -> None:
        self.random = np.random.default_rng(3)
        self.dtype = dtype
        self.first = self._weights(18, 3, 3)
        self.blocks = [
            (self._weights(41, 18, 1), self._weights(41, 1, 3), self._weights(18, 41, 1))
            for _ in range(repeats)
        ]
        self.head = self._weights(35, 18, 1)

    def _weights(self, filters: int, channels: int, size: int) -> tuple[Any, Any]:
        shape = filters, channels, size, size
        scale = (channels * size * size) ** -0.5
        arrays = scale * self.random.normal(size=shape), self.random.normal(size=filters)
        w, b = (parameter(f"/{filters}", array.astype(self.dtype)) for array in arrays)
        return w, b

    def __call__(self, x: Any) -> list[Any]:
        """Outputs of all blocks, and of the head."""
        y = relu6(conv2d(x, *self.first, stride=2, padding="same"))
        outputs = []
        for expand, depthwise, project in self.blocks:
            z = relu6(conv2d(y, *expand))
            z = relu6(conv2d(z, *depthwise, padding="same", groups=41))
            y = y + conv2d(z, *project)
            outputs.append(y)
        return [*outputs, conv2d(y, *self.head, activation="relu")]

    def images(self, batch: int, rows: int = 37, columns: int = 30) -> np.ndarray:
        return self.random.normal(size=(batch, 3, rows, columns)).astype(self.dtype)


def chains(f: Any) -> list[ConvolutionChain]:
    return [n.op for n in f.maker.fgraph.toposort() if isinstance(n.op, ConvolutionChain)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_become_one_operation(dtype: str) -> None:
    net = Blocks(dtype, repeats=3)
    images = net.images(2)
    (x,) = symbols(images)
    y = net(x)[-1]
    f = function([x], y)
    assert len(f.maker.fgraph.apply_nodes) == 1
    assert [len(chain.steps) for chain in chains(f)] == [1 + 3 * 3 + 1]
    plain = function([x], y, kernels=False)
    # More images than are computed at a time, and one of another size.
    for batch in (images, net.images(7), net.images(1, 5, 8)):
        tolerance = 1e-13 if dtype == "float64" else 1e-5
        np.testing.assert_allclose(f(batch), plain(batch), rtol=tolerance, atol=tolerance)


def test_results_are_those_of_single_convolutions_to_the_last_bit() -> None:
    net = Blocks()
    images = net.images(3, 101, 99)  # so large that a first layer alone is unrolled as well
    (x,) = symbols(images)
    y = net(x)[-1]
    f = function([x], y)
    every = function([x], [*_convolutions(y), y])  # all are needed: nothing is joined
    assert chains(f)
    assert not chains(every)
    threads = get_threads()
    try:
        for count in (1, 3):
            set_threads(count)
            np.testing.assert_array_equal(f(images), every(images)[-1])
    finally:
        set_threads(threads)


def _convolutions(y: Any) -> list[Any]:
    """Everything that is computed on the way to y."""
    return [
        v for v in pytensor.graph.traversal.ancestors([y]) if v.owner is not None and v.ndim == 4
    ]


def test_layers_on_the_way_are_outputs_as_well() -> None:
    net = Blocks(repeats=3)
    images = net.images(1)
    (x,) = symbols(images)
    outputs = net(x)
    f = function([x], outputs)
    assert [len(chain.outputs) for chain in chains(f)] == [4]
    for fast, plain in zip(f(images), function([x], outputs, kernels=False)(images), strict=True):
        np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-5)


def test_changed_weights_count_at_once() -> None:
    net = Blocks()
    images = net.images(1)
    (x,) = symbols(images)
    f = function([x], net(x)[-1])
    before = f(images)
    w = net.blocks[1][1][0]
    w.get_value(borrow=True)[:] *= -1
    changed = f(images)
    assert not np.allclose(changed, before)
    w.set_value(-w.get_value())
    np.testing.assert_array_equal(f(images), before)


def test_gradients_keep_their_convolutions() -> None:
    net = Blocks("float64", repeats=1)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    gradient = pytensor.grad((net(x)[-1] ** 2).sum(), x)
    f = function([x], gradient)
    assert not chains(f)
    plain = function([x], gradient, kernels=False)
    np.testing.assert_allclose(f(images), plain(images), rtol=1e-10, atol=1e-12)


def test_images_of_other_channels_are_refused() -> None:
    net = Blocks()
    (x,) = symbols(net.images(1))
    f = function([x], net(x)[-1])
    with pytest.raises(ValueError, match="the input has 2 channels, the filters expect 3"):
        f(net.images(1)[:, :2])
