"""ReLU and ReLU6: values, gradients from the output, sums for biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.conv.activation import ActivationGradient, leaky_relu, relu, relu6


def leaky(x: Any) -> Any:
    return leaky_relu(x, 0.25)


@pytest.mark.parametrize("activation", [relu, relu6, leaky])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5, 7), (2, 70000)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_equal_numpy(activation: Any, shape: tuple[int, ...], dtype: str) -> None:
    x = (np.random.default_rng(0).normal(size=shape) * 5).astype(dtype)
    assert_same(activation, x)


def test_values_and_gradient_at_the_corners() -> None:
    x = np.array([-1.0, 0.0, 3.0, 6.0, 7.0, np.nan])
    (v,) = symbols(x)
    y, dx = function([v], [relu6(v), pytensor.grad(relu6(v).sum(), v)])(x)
    np.testing.assert_array_equal(y, [0, 0, 3, 6, 6, np.nan])
    np.testing.assert_array_equal(dx, [0, 0, 1, 0, 0, 0])


def test_leaky_relu_at_the_corners() -> None:
    x = np.array([-np.inf, -4.0, 0.0, 3.0, 1e30, np.nan])
    (v,) = symbols(x)
    y, dx = function([v], [leaky(v), pytensor.grad(leaky(v).sum(), v)])(x)
    np.testing.assert_array_equal(y, [-np.inf, -1, 0, 3, 1e30, np.nan])
    np.testing.assert_array_equal(dx[:5], [0.25, 0.25, 0.25, 1, 1])
    np.testing.assert_array_equal(function([v], leaky_relu(v, 0.0))(x)[:2], [0, 0])
    with pytest.raises(ValueError, match="at least 0, not -1"):
        leaky_relu(v, -1.0)


def test_leaky_relu_can_be_differentiated_twice() -> None:
    def penalty(x: Any) -> Any:
        return (pytensor.grad((leaky(x) ** 3).sum(), x) ** 2).sum()

    verify_gradient(penalty, [np.random.default_rng(0).normal(size=(3, 4))])


def test_results_may_lie_where_their_inputs_were() -> None:
    x = np.random.default_rng(0).normal(size=(2, 70000)).astype("float32")
    (v,) = symbols(x)
    f = function([v], leaky(v + v))
    assert any(
        "Activation{" in str(n.op) and "overwrites=0" in str(n.op)
        for n in f.maker.fgraph.apply_nodes
    )
    np.testing.assert_array_equal(f(x), np.where(x < 0, np.float32(0.25) * (x + x), x + x))


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_masked_gradient_and_its_channel_sums(slope: float) -> None:
    random = np.random.default_rng(0)
    x, g = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 3, 4, 5))
    y = np.where(x > 0, x, slope * x)
    wanted = np.where(x > 0, g, slope * g)
    inputs = symbols(y, g)
    operation = ActivationGradient("relu", slope, sums=True)
    masked, sums = function(inputs, operation(*inputs))(y, g)
    np.testing.assert_array_equal(masked, wanted)
    np.testing.assert_allclose(sums, wanted.sum(axis=(0, 2, 3)))

    def total(g: Any) -> Any:
        masked, sums = operation(y, g)
        return (masked**2).sum() + (sums**3).sum()

    verify_gradient(total, [g])
