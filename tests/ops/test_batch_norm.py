"""Batch normalization: kernel and NumPy agree, first and second derivatives are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.conv.activation import relu, relu6
from dlmie.ops.normalization.batch_norm import (
    BatchNormalize,
    BatchNormalizeGradient,
    batch_normalize,
    symbolic_gradient,
)

SHAPES = [(4, 3), (1, 1), (150, 393), (2, 3, 5), (3, 2, 4, 5), (2, 17, 64, 33)]


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


@pytest.mark.parametrize("shape", [(5, 3), (150, 393), (3, 2, 4, 5), (2, 17, 64, 33)])
@pytest.mark.parametrize("activation", [relu, relu6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_activation_is_joined_to_both_passes(
    shape: tuple[int, ...], activation: Any, dtype: str
) -> None:
    x, gamma, beta = arrays(shape, dtype)
    inputs = symbols(x, 3 * gamma, beta)

    def outputs(**options: Any) -> tuple[Any, list[np.ndarray]]:
        normal, mean, variance = batch_normalize(*inputs)
        y = activation(normal)
        gradients = pytensor.grad((y**3).sum(), inputs)
        run = function(inputs, [y, mean, variance, *gradients], **options)
        return run, run(x, 3 * gamma, beta)

    joined, fast = outputs()
    _, plain = outputs(kernels=False)
    names = [str(node.op).split("{")[0] for node in joined.maker.fgraph.toposort()]
    assert not {"Activation", "ActivationGradient"} & set(names)
    assert names.count("BatchNormalize") == names.count("BatchNormalizeGradient") == 1
    tolerance = 1e-10 if dtype == "float64" else 5e-4
    for one, other in zip(fast, plain, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * np.abs(other).max()


def test_what_the_gradient_lets_through_is_what_was_stored_above_0() -> None:
    """Rounded as they were: of half a million numbers none is taken for another's side."""
    x, gamma, beta = arrays((64, 8, 32, 32), "float32")
    inputs = symbols(x, gamma, beta)
    normal, *_ = batch_normalize(*inputs)
    y = relu(normal)
    d_beta = pytensor.grad(y.sum(), inputs[2])  # counts what passed
    stored, passed = function(inputs, [y, d_beta])(x, gamma, beta)
    np.testing.assert_array_equal(passed, (stored > 0).sum(axis=(0, 2, 3)))


def test_a_normalized_batch_that_others_read_is_kept() -> None:
    x, gamma, beta = arrays((3, 2, 4, 5))
    inputs = symbols(x, gamma, beta)
    normal, *_ = batch_normalize(*inputs)
    y, active, dx = function(
        inputs, [normal, relu(normal), pytensor.grad((relu(normal) ** 2).sum(), inputs[0])]
    )(x, gamma, beta)
    np.testing.assert_array_equal(active, np.maximum(y, 0))
    joined = function(inputs, pytensor.grad((relu(normal) ** 2).sum(), inputs[0]))
    np.testing.assert_allclose(joined(x, gamma, beta), dx, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 2, 3)])
def test_second_derivatives_through_an_activation(shape: tuple[int, ...]) -> None:
    def penalty(x: Any, gamma: Any, beta: Any) -> Any:
        y = relu(batch_normalize(x, gamma, beta)[0])
        slope = pytensor.grad((y**3).sum(), x)
        return (slope**2).sum()

    verify_gradient(penalty, arrays(shape), rel_tol=1e-4)


def test_joined_operations_have_no_gradient_of_their_own() -> None:
    x = pt.dmatrix()
    y, *_ = BatchNormalize("relu")(x, np.ones(3), np.zeros(3), np.asarray(1e-5))
    with pytest.raises(NotImplementedError, match="before compiling"):
        pytensor.grad(y.sum(), x)


def test_what_has_no_channels() -> None:
    with pytest.raises(TypeError, match="needs an axis of channels"):
        batch_normalize(pt.dvector(), np.ones(1), np.zeros(1))
    with pytest.raises(TypeError, match="must all be float32 or all float64"):
        batch_normalize(pt.fmatrix(), np.ones(1), np.zeros(1))
    x, scale = pt.dmatrix(), pt.dvector()
    run = function([x, scale], batch_normalize(x, scale, scale)[0])
    with pytest.raises(ValueError, match="must have a number for each channel"):
        run(np.ones((4, 3)), np.ones(2))
