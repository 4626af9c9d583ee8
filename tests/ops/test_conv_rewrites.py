"""Rewrites around convolutions: each happens, and changes nothing but speed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import symbols

from dlmie.compilation import function
from dlmie.ops.conv.activation import leaky_relu, relu, relu6
from dlmie.ops.conv.conv import conv2d
from dlmie.ops.pool.pool import max_pool


def names(f: Any) -> list[str]:
    """The operations of a compiled function."""
    return [str(node.op) for node in f.maker.fgraph.toposort()]


def count(f: Any, text: str) -> int:
    return sum(text in name for name in names(f))


@pytest.fixture
def arrays() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return (
        random.normal(size=(2, 3, 9, 8)),
        random.normal(size=(4, 3, 3, 3)),
        *(random.normal(size=(4,)) for _ in range(3)),
    )


def check(build: Any, arrays: tuple[np.ndarray, ...]) -> Any:
    """The function compiled with rewrites, after comparing it with the plain one."""
    inputs = symbols(*arrays)
    outputs = build(*inputs)
    f = function(inputs, outputs)
    plain = function(inputs, outputs, kernels=False)
    for fast, slow in zip(np.atleast_1d(f(*arrays)), np.atleast_1d(plain(*arrays)), strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-12)
    return f


def channels(v: Any) -> Any:
    return v.dimshuffle("x", 0, "x", "x")


@pytest.mark.parametrize("activation", [relu, relu6, lambda y: pt.maximum(y, 0)])
def test_activation_is_fused(activation: Any, arrays: Any) -> None:
    f = check(lambda x, w, b: activation(conv2d(x, w, b, padding=1)), arrays[:3])
    assert count(f, "Convolution") == 1
    assert len(names(f)) == 1


def test_activation_of_a_convolution_that_others_read_is_not_fused(arrays: Any) -> None:
    def build(x: Any, w: Any) -> list[Any]:
        y = conv2d(x, w)
        return [y, relu(y)]

    inputs = symbols(*arrays[:2])
    f = function(inputs, build(*inputs))
    y, active = f(*arrays[:2])
    np.testing.assert_array_equal(active, np.maximum(y, 0))
    assert (y < 0).any()


def test_batch_norm_is_folded(arrays: Any) -> None:
    def build(x: Any, w: Any, b: Any, scale: Any, shift: Any) -> Any:
        return relu(conv2d(x, w, b) * channels(scale / 2) + channels(shift))

    f = check(build, arrays)
    convolution = names(f)[-1]
    assert convolution.startswith("Convolution{")
    assert "activation='relu'" in convolution
    without_bias = check(
        lambda x, w, scale, shift: channels(shift) + channels(scale) * conv2d(x, w),
        (*arrays[:2], *arrays[3:]),
    )
    assert names(without_bias)[-1].startswith("Convolution{")


def test_gradients_through_rewritten_graphs_are_the_same(arrays: Any) -> None:
    def build(x: Any, w: Any, b: Any, scale: Any, shift: Any) -> Any:
        y = relu(conv2d(x, w, b) * channels(scale) + channels(shift))
        return pytensor.grad((y**2).sum(), [x, w, b, scale, shift])

    inputs = symbols(*arrays)
    outputs = build(*inputs)
    fast = function(inputs, outputs)(*arrays)
    slow = function(inputs, outputs, kernels=False)(*arrays)
    for a, c in zip(fast, slow, strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-9, atol=1e-10)


def test_training_masks_and_sums_in_one_pass(arrays: Any) -> None:
    inputs = symbols(*arrays[:3])
    x, w, b = inputs
    y = relu(conv2d(x, w, b))
    outputs = pytensor.grad((y**3).sum(), [x, w, b])
    f = function(inputs, outputs)
    assert count(f, "ChannelSum") == 0
    assert count(f, "ActivationGradient{kind='relu', slope=0.0, sums=True, overwrites=0}") == 1
    assert count(f, "activation='relu'") == 1  # the forward pass is fused as well
    assert count(f, "Activation{") == 0
    slow = function(inputs, outputs, kernels=False)
    for a, c in zip(f(*arrays[:3]), slow(*arrays[:3]), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "dtype"),
    [
        ((2, 3, 9, 8), (4, 3, 3, 3), "float64"),
        ((2, 3, 9, 8), (4, 3, 3, 3), "float32"),
        ((2, 17, 15, 14), (37, 17, 3, 3), "float32"),  # Winograd, odd sizes
        ((3, 16, 66, 70), (16, 16, 3, 3), "float32"),  # Winograd, many tiles
    ],
)
@pytest.mark.parametrize("activation", ["relu", "relu6", None])
def test_a_max_pool_is_fused_and_its_numbers_stay_the_same(
    activation: Any, x_shape: Any, w_shape: Any, dtype: str
) -> None:
    random = np.random.default_rng(0)
    data = [random.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1])]
    inputs = symbols(*data)
    y = conv2d(*inputs, padding=1, activation=activation)
    f = function(inputs, max_pool(y, 2))
    assert [name.split("{")[0] for name in names(f)] == ["PooledConvolution"]
    apart = function(inputs, [y, max_pool(y, 2)])
    assert count(apart, "PooledConvolution") == 0
    np.testing.assert_array_equal(f(*data), apart(*data)[1])
    data[0][0, 0, 4, 4] = np.nan
    np.testing.assert_array_equal(f(*data), apart(*data)[1])
    assert np.isnan(f(*data)).any()


def test_other_pools_and_training_keep_the_convolution_whole(arrays: Any) -> None:
    inputs = symbols(*arrays[:3])
    y = relu(conv2d(*inputs, padding=1))
    for pool in (max_pool(y, 3, 2), max_pool(y, 2, 1), max_pool(y, 2, ceil_mode=True)):
        assert count(function(inputs, pool), "PooledConvolution") == 0
    gradient = pytensor.grad((max_pool(y, 2) ** 2).sum(), inputs[1])
    assert count(function(inputs, gradient), "PooledConvolution") == 0


@pytest.mark.parametrize("activation", [relu, relu6, lambda y: leaky_relu(y, 0.1)])
@pytest.mark.parametrize("options", [(2,), (3, 2, 1), (3, 1)])
def test_gradients_are_masked_before_a_pool_spreads_them(
    activation: Any, options: Any, arrays: Any
) -> None:
    inputs = symbols(*arrays[:3])
    y = max_pool(activation(conv2d(*inputs, padding=1) * 5), *options)
    outputs = pytensor.grad((y**3).sum(), inputs)
    f = function(inputs, outputs)
    order = [name.split("{")[0] for name in names(f)]
    assert order.index("ActivationGradient") < order.index("MaxPoolGradient")
    slow = function(inputs, outputs, kernels=False)
    for a, c in zip(f(*arrays[:3]), slow(*arrays[:3]), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-10, atol=1e-9)


def test_biases_before_a_pool_are_summed_before_it_spreads(arrays: Any) -> None:
    inputs = symbols(*arrays[:3])
    y = leaky_relu(max_pool(conv2d(*inputs), 2), 0.1)
    outputs = pytensor.grad((y**3).sum(), inputs)
    f = function(inputs, outputs)
    assert count(f, "ChannelSum") == 0
    assert count(f, "sums=True") == 1
    slow = function(inputs, outputs, kernels=False)
    for a, c in zip(f(*arrays[:3]), slow(*arrays[:3]), strict=True):
        np.testing.assert_allclose(a, c, rtol=1e-10, atol=1e-10)


def test_a_users_own_graphs_do_not_change(arrays: Any) -> None:
    inputs = symbols(*arrays[:3])
    y = relu(conv2d(*inputs))
    f = pytensor.function(inputs, y, mode=pytensor.compile.mode.Mode("cvm", "fast_run"))
    assert count(f, "Activation{") == 1
