"""Chains of convolutions: when functions have them, and that they change nothing but speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytest
from conv_cases import symbols
from pytensor.tensor.variable import TensorConstant

from dlmie.compilation import function, get_threads, set_threads
from dlmie.graph.network import parameter
from dlmie.ops.conv.activation import ActivationGradient, relu6
from dlmie.ops.conv.chain import ConvolutionChain, ConvolutionChainGradient, Step
from dlmie.ops.conv.conv import (
    Convolution,
    ConvolutionInputGradient,
    ConvolutionWeightGradient,
    conv2d,
)


class Blocks:
    """A first layer and inverted residual blocks with random weights; no layer is a round number.

    Parameters
    ----------
    repeats : int
        Blocks whose input is added to their output.
    depthwise_first : bool
        Another block before them, of stride 2, without the first of its three convolutions.
    """

    def __init__(
        self, dtype: str = "float32", *, repeats: int = 2, depthwise_first: bool = False
    ) -> None:
        self.random = np.random.default_rng(3)
        self.dtype = dtype
        self.first = self._weights(18, 3, 3)
        self.small = (self._weights(18, 1, 5), self._weights(18, 18, 1)) if depthwise_first else ()
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
        if self.small:
            z = conv2d(y, *self.small[0], stride=2, padding="same", groups=18, activation="relu6")
            y = conv2d(z, *self.small[1])
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


@pytest.mark.parametrize("threads_used", [1, 2, 4, 7])
def test_threads_share_out_any_number_of_images(threads_used: int) -> None:
    """Some computed by one thread each, the rest by all: as each image alone, to the last bit."""
    net = Blocks(depthwise_first=True)
    (x,) = symbols(net.images(1))
    y = net(x)[-1]
    f = function([x], [y, pytensor.grad((y**2).sum(), x)])
    assert chains(f)
    assert gradients(f)
    images = net.images(14)
    threads = get_threads()
    try:
        set_threads(1)
        alone = [f(images[i : i + 1]) for i in range(len(images))]
        set_threads(threads_used)
        for batch in (*range(1, 10), len(images)):
            for got, *expected in zip(f(images[:batch]), *alone[:batch], strict=True):
                np.testing.assert_array_equal(got, np.concatenate(expected))
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_filters_that_do_not_change_are_packed_once(dtype: str) -> None:
    """Those that fill blocks of sixteen; with the same results, and in NumPy as well."""
    rng = np.random.default_rng(0)

    def filters(*shape: int) -> Any:
        w = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        return pytensor.shared(w.astype(dtype), shape=shape)

    images = rng.normal(size=(3, 24, 9, 7)).astype(dtype)
    (x,) = symbols(images)
    y = relu6(conv2d(x, filters(144, 24, 1, 1)))
    y = relu6(conv2d(y, filters(144, 1, 3, 3), padding="same", groups=144))
    for count in (24, 48, 16, 10):
        y = conv2d(y, filters(count, y.type.shape[1], 1, 1))
    plain, fixed = function([x], y), function([x], y, fixed=True)
    np.testing.assert_array_equal(fixed(images), plain(images))
    (before,), (chain,) = chains(plain), chains(fixed)
    assert not any(step.packed for step in before.steps)
    assert [step.packed for step in chain.steps] == [True, False, False, True, True, False]

    (node,) = (n for n in fixed.maker.fgraph.toposort() if n.op is chain)
    weights = [w.data if isinstance(w, TensorConstant) else w.get_value() for w in node.inputs[1:]]
    cells: list[list[Any]] = [[None]]
    chain.perform(node, [images, *weights], cells)
    np.testing.assert_allclose(cells[0][0], plain(images), rtol=1e-4, atol=1e-4)


def gradients(f: Any) -> list[ConvolutionChainGradient]:
    nodes = f.maker.fgraph.toposort()
    return [n.op for n in nodes if isinstance(n.op, ConvolutionChainGradient)]


def left(f: Any) -> int:
    """How many convolutions and gradients of activations a function has outside its chains."""
    kinds = Convolution, ConvolutionInputGradient, ConvolutionWeightGradient, ActivationGradient
    return sum(isinstance(n.op, kinds) for n in f.maker.fgraph.toposort())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("repeats", [0, 1, 3])
def test_a_gradient_becomes_one_operation(dtype: str, repeats: int) -> None:
    """After which only the first layer's is left; more images than are computed at a time, too."""
    net = Blocks(dtype, repeats=repeats, depthwise_first=True)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    value = (net(x)[-1] ** 2).sum()
    wanted = [value, pytensor.grad(value, x)]
    f, plain = function([x], wanted), function([x], wanted, kernels=False)
    assert [len(chain.steps) for chain in chains(f)] == [1 + 2 + 3 * repeats + 1]
    assert [g.first for g in gradients(f)] == [1]
    assert left(f) == 1
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    for batch in (images, net.images(6), net.images(1, 20, 41)):
        for fast, slow in zip(f(batch), plain(batch), strict=True):
            scale = abs(slow).max()
            np.testing.assert_allclose(fast / scale, slow / scale, atol=tolerance)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 4, 5])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid", ((2, 0), (5, 1))])
def test_gradients_through_any_depthwise_filter(
    stride: int, size: int, dilation: int, padding: Any
) -> None:
    """Gaps between the pixels of a gradient, edges of every width, rows that no output reads."""
    random = np.random.default_rng(5)
    x = random.normal(size=(2, 5, 13, 17))
    (image,) = symbols(x)
    expand, project = (
        parameter("/w", random.normal(size=(n, m, 1, 1))) for n, m in ((19, 5), (3, 19))
    )
    filters = parameter("/w", random.normal(size=(19, 1, size, size)))
    y = conv2d(image, expand, activation="relu6")
    y = conv2d(
        y, filters, stride=stride, padding=padding, dilation=dilation, groups=19, activation="relu"
    )
    gradient = pytensor.grad((conv2d(y, project) ** 2).sum(), image)
    f = function([image], gradient)
    assert gradients(f)
    assert not left(f)
    plain = function([image], gradient, kernels=False)(x)
    np.testing.assert_allclose(f(x), plain, rtol=1e-9, atol=1e-9 * abs(plain).max())


def test_the_gradient_does_not_depend_on_threads() -> None:
    net = Blocks(repeats=2, depthwise_first=True)
    images = net.images(2, 101, 99)
    (x,) = symbols(images)
    f = function([x], pytensor.grad((net(x)[-1] ** 2).sum(), x))
    threads, found = get_threads(), []
    try:
        for count in (1, 2, 5):
            set_threads(count)
            found.append(f(images))
    finally:
        set_threads(threads)
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numpy_defines_the_chain_with_its_gradient(dtype: str) -> None:
    """The two operations themselves in NumPy, bytes included."""
    net = Blocks(dtype, depthwise_first=True)
    images = net.images(2, 9, 12)
    (x,) = symbols(images)
    f = function([x], pytensor.grad((net(x)[-1] ** 2).sum(), x))
    for node in f.maker.fgraph.toposort():
        if not isinstance(node.op, ConvolutionChain):
            continue
        inputs = [v.type() for v in node.inputs]
        forward = node.op(*inputs, return_list=True)
        (backward,) = gradients(f)
        filters = [v for v in inputs[1:] if v.ndim == 4]
        g = backward(inputs[0], forward[-1], forward[0], *filters)
        values = [
            images,
            *(net.random.normal(size=v.type.shape).astype(dtype) for v in node.inputs[1:]),
        ]
        fast = function(inputs, [*forward, g])(*values)
        slow = function(inputs, [*forward, g], kernels=False)(*values)
        np.testing.assert_array_equal(fast[-2], slow[-2])
        assert 0.1 < np.mean(fast[-2] != 0) < 0.8
        for a, b in ((fast[0], slow[0]), (fast[-1], slow[-1])):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * abs(b).max())
        return
    raise AssertionError("no chain")


def test_gradients_that_need_more_keep_their_convolutions() -> None:
    """Those of weights, or of what is inside: the same numbers, from single operations."""
    net = Blocks("float64", repeats=1)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    outputs = net(x)
    value = (outputs[-1] ** 2).sum()
    w = net.blocks[0][0][0]
    for wanted in ([x, w], [x, outputs[0]], [w]):
        found = pytensor.grad(value, wanted)
        f, plain = function([x], found), function([x], found, kernels=False)
        assert not gradients(f)
        for fast, slow in zip(f(images), plain(images), strict=True):
            np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-9 * abs(slow).max())


def test_a_gradient_from_two_layers_is_right() -> None:
    net = Blocks("float64", repeats=2)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    first, second, last = net(x)
    found = pytensor.grad((last**2).sum() + (first**3).sum() + second.sum(), x)
    f, plain = function([x], found), function([x], found, kernels=False)
    np.testing.assert_allclose(f(images), plain(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("size", "options"), [(3, {}), (1, {"padding": 1}), (2, {"stride": 1})])
def test_first_layers_of_other_kinds_keep_their_gradient(size: int, options: Any) -> None:
    net = Blocks("float64", repeats=1)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    first = parameter("/w", net.random.normal(size=(18, 3, size, size)))
    y = conv2d(x, first, activation="relu", **options)
    y = conv2d(y, net.blocks[0][1][0][:18], groups=18, activation="relu6")
    f, plain = _both(x, pytensor.grad((conv2d(y, *net.head) ** 2).sum(), x))
    assert [g.first for g in gradients(f)] == [1]
    assert left(f) == 1
    _assert_same(f(images), plain(images))


def _both(x: Any, outputs: Any) -> tuple[Any, Any]:
    """A function with kernels, and in NumPy."""
    return function([x], outputs), function([x], outputs, kernels=False)


def _assert_same(fast: Any, slow: Any) -> None:
    np.testing.assert_allclose(
        fast, slow, rtol=1e-9, atol=1e-9 * (abs(slow).max() if slow.size else 1)
    )


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("value", [False, True])
def test_the_output_may_be_its_own_gradient(activation: Any, value: bool) -> None:
    """As of half the sum of its squares; what is computed forward is computed once."""
    net = Blocks("float64", repeats=1)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    y = conv2d(net(x)[0], *net.head, activation=activation)
    found = pytensor.grad(None, x, known_grads={y: y})
    outputs = [found, (y**2).sum()] if value else [found]
    f, plain = _both(x, outputs)
    assert len(chains(f)) == len(gradients(f)) == 1
    assert left(f) == 1
    for fast, slow in zip(f(images), plain(images), strict=True):
        _assert_same(fast, slow)


def test_a_gradient_in_the_shape_of_another_image_is_left_alone() -> None:
    """What gives the shape of a gradient belongs to what is looked for."""
    random = np.random.default_rng(5)
    x, u = random.normal(size=(1, 6, 13, 13)), random.normal(size=(1, 6, 14, 14))
    image, other = symbols(x, u)
    w, v = (parameter("/w", random.normal(size=shape)) for shape in ((6, 1, 3, 3), (4, 6, 1, 1)))
    options: dict[str, Any] = {"stride": 2, "padding": "same", "groups": 6}
    y = conv2d(image, w, activation="relu", **options)
    (g,) = pytensor.grad((conv2d(y, v) ** 2).sum(), [y])
    before = ActivationGradient("relu")(y, g)
    op = conv2d(image, w, **options).owner.op.linear(ConvolutionInputGradient)
    f = function([image, other], op(other, w, before))
    assert f(x, u).shape == u.shape


def test_chains_after_one_another_are_computed_once() -> None:
    """The second begins where the first ends, since its weights depend on that."""
    net = Blocks("float64", repeats=2)
    images = net.images(1, 9, 8)
    (x,) = symbols(images)
    y = net(x)[0]
    (expand, b), depthwise, project = net.blocks[1]
    z = conv2d(y, expand * y.mean(), b, activation="relu6")
    z = conv2d(z, *depthwise, padding="same", groups=41, activation="relu6")
    f, plain = _both(x, conv2d(z, *project))
    assert len(chains(f)) == 2
    assert not left(f)
    _assert_same(f(images), plain(images))


def test_chains_that_need_each_other_are_not_both_joined() -> None:
    """Joined both, neither could be computed first."""
    random = np.random.default_rng(5)
    x = random.normal(size=(1, 6, 9, 8))
    (image,) = symbols(x)
    first = [parameter("/w", random.normal(size=(6, 6, 1, 1))) for _ in range(2)]
    depthwise = [parameter("/w", random.normal(size=(6, 1, 3, 3))) for _ in range(2)]
    last = [parameter("/w", random.normal(size=(6, 6, 1, 1))) for _ in range(2)]
    middle = [
        conv2d(conv2d(conv2d(image * n, w), d, groups=6), v)
        for n, w, d, v in zip((2, 3), first, depthwise, first, strict=True)
    ]
    ends = [
        conv2d(conv2d(y, v * other.mean()), w)
        for y, other, v, w in zip(middle, middle[::-1], last, first, strict=True)
    ]
    f, plain = _both(image, ends[0] + ends[1])
    _assert_same(f(x), plain(x))


def test_bands_of_large_images_are_those_of_the_definition() -> None:
    net = Blocks("float64", repeats=1, depthwise_first=True)
    images = net.images(5, 181, 170)
    (x,) = symbols(images)
    f, plain = _both(x, pytensor.grad((net(x)[-1] ** 2).sum(), x))
    _assert_same(f(images), plain(images))


def test_no_images_have_an_empty_gradient() -> None:
    net = Blocks(repeats=1)
    (x,) = symbols(net.images(1))
    f = function([x], pytensor.grad((net(x)[-1] ** 2).sum(), x))
    assert gradients(f)
    assert f(net.images(0)).shape == (0, 3, 37, 30)


def test_images_without_columns_are_not_an_error() -> None:
    (x,) = symbols(np.ones((1, 6, 3, 0)))
    y = conv2d(x, np.ones((6, 1, 1, 1)), padding="same", groups=6)
    assert function([x], y)(np.ones((1, 6, 3, 0))).shape == (1, 6, 3, 0)


def test_gradients_that_are_no_chain_are_refused() -> None:
    plain, depthwise = Convolution(activation="relu"), Convolution(groups=5)
    for steps, first in (
        ((Step(plain, 0), Step(plain, 0)), 0),  # does not read the one before
        ((Step(plain, 0), Step(plain, 1)), 2),
        ((Step(plain, 0, residual=0),), 0),  # an activation before the residual
        (
            (Step(depthwise, 0), Step(Convolution(), 1, residual=0)),
            0,
        ),  # what a depthwise step reads
    ):
        with pytest.raises(ValueError, match="is no chain"):
            ConvolutionChainGradient(steps, first)


def test_packed_filters_are_refused_where_they_cannot_be() -> None:
    packed = Step(Convolution(), 0, packed=True)
    with pytest.raises(ValueError, match="reads filters as they are, not packed"):
        ConvolutionChainGradient((packed,), 0)
    arrays = [np.ones((1, 5, 4, 4)), np.ones((24, 5, 1, 1)), np.ones((24, 1, 3, 3))]
    inputs = symbols(*arrays)
    steps = packed, Step(Convolution(groups=24), 1)
    f = function(inputs, ConvolutionChain(steps, (1,))(*inputs))
    with pytest.raises(ValueError, match="only 1x1 filters are packed, a multiple of 16"):
        f(*arrays)


def test_masks_of_another_size_are_refused() -> None:
    steps = (Step(Convolution(activation="relu"), 0), Step(Convolution(groups=5), 1))
    arrays = [np.ones((1, 5, 4, 4)), np.ones((1, 7), "int8"), np.ones((1, 5, 4, 4))]
    arrays += [np.ones((5, 5, 1, 1)), np.ones((5, 1, 1, 1))]
    inputs = symbols(*arrays)
    f = function(inputs, ConvolutionChainGradient(steps, 0)(*inputs))
    with pytest.raises(ValueError, match="the masks of a chain must be 1x256 bytes"):
        f(*arrays)


def test_a_gradient_of_another_size_is_refused() -> None:
    net = Blocks(repeats=1)
    images = net.images(1)
    x, g = symbols(images, np.ones((1, 35, 5, 5), "float32"))
    f = function([x, g], pytensor.grad(None, x, known_grads={net(x)[-1]: g}))
    assert gradients(f)
    with pytest.raises(ValueError, match="the gradient of the output must be 1x35x19x15"):
        f(images, np.ones((1, 35, 5, 5), "float32"))


def test_images_of_other_channels_are_refused() -> None:
    net = Blocks()
    (x,) = symbols(net.images(1))
    f = function([x], net(x)[-1])
    with pytest.raises(ValueError, match="the input has 2 channels, the filters expect 3"):
        f(net.images(1)[:, :2])
