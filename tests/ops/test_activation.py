"""ReLU and ReLU6: values, gradients from the output, sums for biases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.conv.activation import ActivationGradient, relu, relu6


@pytest.mark.parametrize("activation", [relu, relu6])
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


def test_masked_gradient_and_its_channel_sums() -> None:
    random = np.random.default_rng(0)
    y, g = random.normal(size=(2, 3, 4, 5)).clip(0), random.normal(size=(2, 3, 4, 5))
    inputs = symbols(y, g)
    masked, sums = function(inputs, ActivationGradient("relu", sums=True)(*inputs))(y, g)
    np.testing.assert_array_equal(masked, g * (y > 0))
    np.testing.assert_allclose(sums, (g * (y > 0)).sum(axis=(0, 2, 3)))

    def total(g: Any) -> Any:
        masked, sums = ActivationGradient("relu", sums=True)(y, g)
        return (masked**2).sum() + (sums**3).sum()

    verify_gradient(total, [g])
