"""The course's numbers of its layers, forward and backward, by compiled graphs in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from course import GivenMasks, assert_matches, course_entry, line
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.layers import BatchNorm, Conv2D, Dropout, GroupNorm, LayerNorm, Linear
from dlmie.ops.conv.activation import relu
from dlmie.ops.conv.conv import conv2d
from dlmie.ops.pool.pool import max_pool

RNG = np.random.default_rng(0)


def symbol(array: np.ndarray) -> Variable:
    return pt.tensor(dtype="float64", shape=(None,) * array.ndim)


def forward_and_back(
    build: Callable[[Variable], Variable],
    x: np.ndarray,
    dout: np.ndarray,
    parameters: Sequence[Variable] = (),
) -> list[np.ndarray]:
    """The output, and the gradients of ``Σ dout · output``: of x, then of the parameters."""
    variable = symbol(x)
    y = build(variable)
    gradients = pytensor.grad((y * pt.constant(dout)).sum(), [variable, *parameters])
    made: list[np.ndarray] = function([variable], [y, *gradients])(x)
    return made


def values(build: Callable[[Variable], Variable], x: np.ndarray) -> np.ndarray:
    variable = symbol(x)
    made: np.ndarray = function([variable], build(variable))(x)
    return made


def filled(layer: Any, **arrays: np.ndarray) -> Any:
    """The layer with other values of its parameters."""
    for name, array in arrays.items():
        parameter = getattr(layer, name)
        parameter.set_value(np.asarray(array, np.float64).reshape(parameter.type.shape))
    return layer


def trained(layer: BatchNorm) -> Callable[[Variable], Variable]:
    """Its training expression."""
    return lambda x: layer.train(x)[0]


def check(entry: dict[str, Any], **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        assert_matches(array, entry["expected"][name], entry["rtol"], 1e-11)


def test_relu(shared: Path) -> None:
    entry = course_entry(shared, "relu_forward")
    assert_matches(values(relu, line(-0.5, 0.5, 3, 4)), entry["expected"], entry["rtol"])


def test_affine(shared: Path) -> None:
    r = np.random.RandomState(231)
    x, w, b, dout = r.randn(10, 2, 3), r.randn(6, 5), r.randn(5), r.randn(10, 5)
    layer = filled(Linear("/fc", 6, 5, rng=RNG, dtype="float64"), W=w, b=b)
    _, dx, dw, db = forward_and_back(lambda v: layer(v.flatten(2)), x, dout, [layer.W, layer.b])
    check(course_entry(shared, "affine_backward"), dx=dx, dw=dw, db=db)


def mixed(r: np.random.RandomState, rows: int) -> np.ndarray:
    """What two random layers make of random numbers: three features of very different sizes."""
    x, w1, w2 = r.randn(rows, 50), r.randn(50, 60), r.randn(60, 3)
    return np.asarray(np.maximum(0, x @ w1) @ w2)


def test_statistics_after_batch_norm(shared: Path) -> None:
    entry = course_entry(shared, "batchnorm_train_statistics")
    expected, rtol = entry["expected"], entry["rtol"]
    x = mixed(np.random.RandomState(231), 200)
    np.testing.assert_allclose(x.mean(axis=0), expected["before"]["mean"], rtol=rtol)
    y = values(trained(BatchNorm("/bn", 3, dtype="float64")), x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), expected["std_gamma1"], rtol=rtol)
    layer = filled(BatchNorm("/bn", 3, dtype="float64"), gamma=[1, 2, 3], beta=[11, 12, 13])
    y = values(trained(layer), x)
    np.testing.assert_allclose(y.mean(axis=0), expected["mean_scaled"], rtol=rtol)
    np.testing.assert_allclose(y.std(axis=0), expected["std_scaled"], rtol=rtol)
    np.testing.assert_allclose(y[0], expected["first_row"], rtol=rtol)


def after_fifty_batches(layer: BatchNorm, batches: Sequence[np.ndarray]) -> np.ndarray:
    """Train on fifty batches from statistics that begin at 0; what the layer makes of one more."""
    layer.variance.set_value(np.zeros_like(layer.variance.get_value()))
    x = symbol(batches[0])
    y, updates = layer.train(x)
    train = function([x], y, updates=updates)
    for batch in batches[:50]:
        train(batch)
    return values(layer, batches[50])


def check_running(entry: dict[str, Any], layer: BatchNorm, y: np.ndarray) -> None:
    axes = tuple(axis for axis in range(y.ndim) if axis != 1)
    check(
        entry,
        running_mean=layer.mean.get_value(),
        running_var=layer.variance.get_value(),
        mean=y.mean(axis=axes),
        std=y.std(axis=axes),
    )


def test_running_statistics_of_batch_norm(shared: Path) -> None:
    r = np.random.RandomState(231)
    w1, w2 = r.randn(50, 60), r.randn(60, 3)
    batches = [np.maximum(0, r.randn(200, 50) @ w1) @ w2 for _ in range(51)]
    layer = BatchNorm("/bn", 3, dtype="float64")
    y = after_fifty_batches(layer, batches)
    check_running(course_entry(shared, "batchnorm_test_statistics"), layer, y)


def test_running_statistics_of_spatial_batch_norm(shared: Path) -> None:
    r = np.random.RandomState(231)
    batches = [2.3 * r.randn(10, 4, 11, 12) + 13 for _ in range(51)]
    layer = BatchNorm("/bn", 4, dtype="float64")
    y = after_fifty_batches(layer, batches)
    check_running(course_entry(shared, "spatial_batchnorm_test"), layer, y)


@pytest.mark.parametrize(
    ("name", "kind"), [("batchnorm_backward", BatchNorm), ("layernorm_backward", LayerNorm)]
)
def test_norms_of_vectors(shared: Path, name: str, kind: type[BatchNorm | LayerNorm]) -> None:
    r = np.random.RandomState(231)
    x, gamma, beta, dout = 5 * r.randn(4, 5) + 12, r.randn(5), r.randn(5), r.randn(4, 5)
    layer = filled(kind("/norm", 5, dtype="float64"), gamma=gamma, beta=beta)
    build = trained(layer) if isinstance(layer, BatchNorm) else layer
    y, dx, dgamma, dbeta = forward_and_back(build, x, dout, [layer.gamma, layer.beta])
    check(course_entry(shared, name), y=y, dx=dx, dgamma=dgamma, dbeta=dbeta)


@pytest.mark.parametrize("shape", [(4, 5), (200, 3), (2, 3, 4, 5)])
def test_the_alternative_backward_of_batch_norm(shape: tuple[int, ...]) -> None:
    """Simplified by hand, with one pass for both sums, the gradient is the same."""
    r = np.random.RandomState(231)
    x, dout, gamma = 5 * r.randn(*shape) + 12, r.randn(*shape), r.randn(shape[1])
    layer = filled(BatchNorm("/bn", shape[1], dtype="float64"), gamma=gamma)
    _, dx, dgamma, dbeta = forward_and_back(trained(layer), x, dout, [layer.gamma, layer.beta])
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    size = x.size // shape[1]

    def spread(a: np.ndarray) -> np.ndarray:
        return a.reshape(1, -1, *[1] * (len(shape) - 2))

    scale = np.sqrt(x.var(axis=axes) + 1e-5)
    normal = (x - spread(x.mean(axis=axes))) / spread(scale)
    np.testing.assert_allclose(dbeta, dout.sum(axis=axes), rtol=1e-10)
    np.testing.assert_allclose(dgamma, (dout * normal).sum(axis=axes), rtol=1e-10)
    slope = size * dout - spread(dbeta) - normal * spread(dgamma)
    expected = spread(gamma / (size * scale)) * slope
    np.testing.assert_allclose(dx, expected, rtol=1e-9, atol=1e-12)


def test_statistics_after_layer_norm(shared: Path) -> None:
    entry = course_entry(shared, "layernorm_statistics")
    x = mixed(np.random.RandomState(231), 4)
    expected = entry["expected"]
    np.testing.assert_allclose(x.std(axis=1), expected["before"]["std"], rtol=entry["rtol"])
    layer = filled(LayerNorm("/ln", 3, dtype="float64"), gamma=[3] * 3, beta=[5] * 3)
    y = values(layer, x)
    np.testing.assert_allclose(y.std(axis=1), expected["std"], rtol=entry["rtol"])
    np.testing.assert_allclose(y.mean(axis=1), 5, rtol=1e-12)


def test_spatial_batch_norm(shared: Path) -> None:
    entry = course_entry(shared, "spatial_batchnorm_train")
    expected, rtol = entry["expected"], entry["rtol"]
    x, axes = 4 * np.random.RandomState(231).randn(2, 3, 4, 5) + 10, (0, 2, 3)
    np.testing.assert_allclose(x.mean(axis=axes), expected["before"]["mean"], rtol=rtol)
    y = values(trained(BatchNorm("/bn", 3, dtype="float64")), x)
    np.testing.assert_allclose(y.std(axis=axes), expected["std_gamma1"], rtol=rtol)
    layer = filled(BatchNorm("/bn", 3, dtype="float64"), gamma=[3, 4, 5], beta=[6, 7, 8])
    y = values(trained(layer), x)
    check(entry, mean_scaled=y.mean(axis=axes), std_scaled=y.std(axis=axes), out=y)


def test_spatial_batch_norm_backward(shared: Path) -> None:
    r = np.random.RandomState(231)
    x, gamma, beta, dout = 5 * r.randn(2, 3, 4, 5) + 12, r.randn(3), r.randn(3), r.randn(2, 3, 4, 5)
    layer = filled(BatchNorm("/bn", 3, dtype="float64"), gamma=gamma, beta=beta)
    _, dx, dgamma, dbeta = forward_and_back(trained(layer), x, dout, [layer.gamma, layer.beta])
    check(course_entry(shared, "spatial_batchnorm_backward"), dx=dx, dgamma=dgamma, dbeta=dbeta)


def test_group_norm(shared: Path) -> None:
    entry = course_entry(shared, "group_norm")
    x = 4 * np.random.RandomState(231).randn(2, 6, 4, 5) + 10
    y = values(GroupNorm("/gn", 6, 2, dtype="float64"), x)
    check(entry, out=y, std=y.reshape(4, -1).std(axis=1))
    grouped = x.reshape(4, -1)
    expected = entry["expected"]["before"]
    np.testing.assert_allclose(grouped.std(axis=1), expected["std"], rtol=entry["rtol"])


def test_group_norm_backward(shared: Path) -> None:
    r = np.random.RandomState(231)
    x, gamma = 5 * r.randn(2, 6, 4, 5) + 12, r.randn(1, 6, 1, 1)
    beta, dout = r.randn(1, 6, 1, 1), r.randn(2, 6, 4, 5)
    layer = filled(GroupNorm("/gn", 6, 2, dtype="float64"), gamma=gamma, beta=beta)
    _, dx, dgamma, dbeta = forward_and_back(layer, x, dout, [layer.gamma, layer.beta])
    check(course_entry(shared, "group_norm_backward"), dx=dx, dgamma=dgamma, dbeta=dbeta)


@pytest.mark.parametrize("keeps", [(0.3, 0.6, 0.75), (0.25, 0.4, 0.7)])
def test_statistics_of_dropout(shared: Path, keeps: tuple[float, ...]) -> None:
    """The course's masks through the layer: scaled by 1 / keep, and nothing when it tests."""
    entry = course_entry(shared, "dropout_statistics")
    r = np.random.RandomState(231)
    x = r.randn(500, 500) + 10
    for keep in keeps:
        noise, variable = GivenMasks(lambda: r), pt.tensor(dtype="float64", shape=(None, 500))
        layer = Dropout(keep)
        y, updates = layer.train(variable, noise)
        assert not updates
        out, same = function([variable, *noise.inputs], [y, layer(variable)])(x, *noise.drawn(500))
        expected, rtol = entry["expected"][f"keep_{keep}"], entry["rtol"]
        np.testing.assert_allclose(out.mean(), expected["mean"], rtol=rtol)
        np.testing.assert_allclose((out == 0).mean(), expected["zeros"], rtol=rtol)
        np.testing.assert_array_equal(same, x)
    np.testing.assert_allclose(x.mean(), entry["expected"]["input_mean"], rtol=entry["rtol"])


@pytest.mark.parametrize("keep", [0.8, 0.2])
def test_dropout_backward(shared: Path, keep: float) -> None:
    entry = course_entry(shared, "dropout_backward")
    r = np.random.RandomState(231)
    x, dout = r.randn(10, 10) + 10, r.randn(10, 10)
    noise = GivenMasks(lambda: np.random.RandomState(123))
    variable = pt.tensor(dtype="float64", shape=(None, 10))
    y, _ = Dropout(keep).train(variable, noise)
    dx = pytensor.grad((y * pt.constant(dout)).sum(), variable)
    out, dx = function([variable, *noise.inputs], [y, dx])(x, *noise.drawn(10))
    expected = entry["expected"][f"keep_{keep}"]
    # 1 - (1 - keep) is keep but for the last bit.
    assert_matches(out, expected["out"], entry["rtol"])
    assert_matches(dx, expected["dx"], entry["rtol"])


def test_convolution(shared: Path) -> None:
    r = np.random.RandomState(231)
    x, w, b, dout = r.randn(4, 3, 5, 5), r.randn(2, 3, 3, 3), r.randn(2), r.randn(4, 2, 5, 5)
    layer = filled(Conv2D("/conv", 3, 2, 3, rng=RNG, dtype="float64"), W=w, b=b)
    out, dx, dw, db = forward_and_back(layer, x, dout, [layer.W, layer.b])
    check(course_entry(shared, "conv_backward"), out=out, dx=dx, dw=dw, db=db)


def test_strided_convolution(shared: Path) -> None:
    x, w, b = line(-0.1, 0.5, 2, 3, 4, 4), line(-0.2, 0.3, 3, 3, 4, 4), line(-0.1, 0.2, 3)
    layer = Conv2D("/conv", 3, 3, 4, stride=2, padding=1, rng=RNG, dtype="float64")
    filled(layer, W=w, b=b)
    out, dx, dw, db = forward_and_back(layer, x, line(-1, 1, 2, 3, 2, 2), [layer.W, layer.b])
    check(course_entry(shared, "conv_strided_linspace"), out=out, dx=dx, dw=dw, db=db)


def test_max_pool(shared: Path) -> None:
    entry = course_entry(shared, "max_pool_forward")
    x = line(-0.3, 0.4, 2, 3, 4, 4)
    assert_matches(values(partial(max_pool, size=2), x), entry["expected"], entry["rtol"])
    r = np.random.RandomState(231)
    x, dout = r.randn(3, 2, 8, 8), r.randn(3, 2, 4, 4)
    out, dx = forward_and_back(partial(max_pool, size=2), x, dout)
    check(course_entry(shared, "max_pool_backward"), out=out, dx=dx)


def test_convolution_relu_pool(shared: Path) -> None:
    r = np.random.RandomState(231)
    x, w, b, dout = r.randn(2, 3, 16, 16), r.randn(3, 3, 3, 3), r.randn(3), r.randn(2, 3, 8, 8)
    layer = filled(Conv2D("/conv", 3, 3, 3, rng=RNG, dtype="float64"), W=w, b=b)
    out, dx, dw, db = forward_and_back(
        lambda v: max_pool(relu(layer(v)), 2), x, dout, [layer.W, layer.b]
    )
    check(course_entry(shared, "conv_relu_pool"), out=out, dx=dx, dw=dw, db=db)


def test_filters_of_images(shared: Path) -> None:
    entry = course_entry(shared, "image_filters")
    plane = np.add.outer(np.arange(8.0), np.arange(8.0))
    image = np.stack([plane * (channel + 1) for channel in range(3)])[None]
    w = np.zeros((2, 3, 3, 3))
    w[0, :, 1, 1] = [0.3, 0.6, 0.1]
    w[1, 2] = [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    build = partial(conv2d, w=w, b=np.array([0.0, 128.0]), padding=1)
    assert_matches(values(build, image), entry["expected"], entry["rtol"], 1e-11)
