"""Batch normalization: kernel and NumPy agree, first and second derivatives are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.normalization.batch_norm import (
    BatchNormalizeGradient,
    batch_normalize,
    symbolic_gradient,
)

SHAPES = [(4, 3), (1, 1), (2, 3, 5), (3, 2, 4, 5), (2, 17, 64, 33)]


def arrays(shape: tuple[int, ...], dtype: str = "float64") -> list[np.ndarray]:
    random = np.random.default_rng(0)
    numbers = [random.normal(size=shape) * 3 + 7, random.normal(size=shape[1])]
    return [x.astype(dtype) for x in [*numbers, random.normal(size=shape[1])]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kernels_equal_numpy(shape: tuple[int, ...], dtype: str) -> None:
    x, gamma, beta = arrays(shape, dtype)
    tolerance = 1e-10 if dtype == "float64" else 2e-4  # a variance of about 9 around 7
    for output in range(3):

        def build(*inputs: Any, output: int = output) -> Any:
            return batch_normalize(*inputs, 1e-3)[output]

        if output == 0:
            assert_same(build, x, gamma, beta, tolerance=tolerance)
        else:
            assert_same(lambda v: build(v, gamma, beta), x, tolerance=tolerance)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 4, 5)])
def test_gradients_of_all_outputs(shape: tuple[int, ...]) -> None:
    def total(x: Any, gamma: Any, beta: Any) -> Any:
        y, mean, variance = batch_normalize(x, gamma, beta)
        return (y**3).sum() + (mean**2).sum() + (variance**2).sum()

    verify_gradient(total, arrays(shape))


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2, 3)])
def test_second_derivatives(shape: tuple[int, ...]) -> None:
    """What a gradient penalty through batch norm needs."""

    def penalty(x: Any, gamma: Any, beta: Any) -> Any:
        y, _, _ = batch_normalize(x, gamma, beta)
        slope = pytensor.grad((y**3).sum(), x)
        return (slope**2).sum()

    verify_gradient(penalty, arrays(shape), rel_tol=1e-4)


def test_the_gradient_may_lie_where_the_one_before_it_was() -> None:
    x, gamma, g = arrays((3, 2, 4, 5))[0], np.array([1.5, -2.0]), arrays((3, 2, 4, 5))[0] - 6
    mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    given = [x, gamma, mean, variance, g]
    inputs = symbols(*given)
    epsilon = pt.constant(np.asarray(1e-5))
    plain = function(inputs, symbolic_gradient(*inputs, epsilon))(*given)
    # Of a sum the compiled graph can overwrite, of an input it cannot.
    doubled = [*inputs[:4], inputs[4] + inputs[4]]
    fast = function(inputs, BatchNormalizeGradient()(*doubled, epsilon))(*given)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, 2 * other, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(given[4], arrays((3, 2, 4, 5))[0] - 6)


def test_what_has_no_channels() -> None:
    with pytest.raises(TypeError, match="needs an axis of channels"):
        batch_normalize(pt.dvector(), np.ones(1), np.zeros(1))
    with pytest.raises(TypeError, match="must all be float32 or all float64"):
        batch_normalize(pt.fmatrix(), np.ones(1), np.zeros(1))
    x, scale = pt.dmatrix(), pt.dvector()
    run = function([x, scale], batch_normalize(x, scale, scale)[0])
    with pytest.raises(ValueError, match="must have a number for each channel"):
        run(np.ones((4, 3)), np.ones(2))
