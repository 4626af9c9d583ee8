"""The transposed convolution is the transpose of the convolution's map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import assert_same, symbols, verify_gradient

from dlmie.compilation import function
from dlmie.ops.conv.activation import relu, relu6
from dlmie.ops.conv.conv import conv2d, conv2d_transpose

CASES: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": 2, "padding": 1},
    {"stride": (1, 3), "padding": ((1, 0), (2, 1))},
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("kernels", [True, False])
def test_it_is_the_transpose(options: dict[str, Any], kernels: bool) -> None:
    """``<conv2d(y, w), x> = <y, conv2d_transpose(x, w)>`` for all x and y."""
    rng = np.random.default_rng(0)
    x, w = (pt.tensor(name, dtype="float64", shape=(None,) * 4) for name in "xw")
    run = function([x, w], conv2d_transpose(x, w, **options), kernels=kernels)
    small, filters = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 2, 4, 4))
    large = run(small, filters)
    y = rng.standard_normal(large.shape)
    back = function([x, w], conv2d(x, w, **options))(y, filters)
    assert back.shape == small.shape
    np.testing.assert_allclose((back * small).sum(), (y * large).sum(), rtol=1e-12)


# By every algorithm that computes gradients of inputs: products over patches, direct, Winograd's.
LAYERS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = [
    ((2, 3, 4, 5), (3, 2, 4, 4), {"stride": 2, "padding": 1}, "float64"),
    ((5, 17, 7, 6), (17, 19, 4, 3), {"stride": 2, "padding": ((1, 0), (2, 1))}, "float64"),
    ((5, 17, 7, 6), (17, 33, 4, 4), {"stride": 2, "padding": 1}, "float32"),
    ((3, 17, 10, 9), (17, 18, 3, 3), {"padding": 1}, "float32"),
    ((3, 4, 1, 1), (4, 3, 5, 2), {}, "float32"),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options", "dtype"), LAYERS)
@pytest.mark.parametrize("activation", [relu, relu6, None])
def test_bias_and_activation_are_part_of_it(
    x_shape: Any, w_shape: Any, options: dict[str, Any], dtype: str, activation: Any
) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(dtype) for s in (x_shape, w_shape, w_shape[1:2])]

    def layer(x: Any, w: Any, b: Any) -> Any:
        y = conv2d_transpose(x, w, b, **options)
        return y if activation is None else activation(y)

    assert_same(layer, *arrays)
    inputs = symbols(*arrays)
    (one,) = function(inputs, layer(*inputs)).maker.fgraph.toposort()
    assert str(one.op).startswith("TransposedConvolution")


def test_gradients_of_any_order() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((2, 3, 3, 2), (3, 2, 4, 4), (2,))]

    def penalty(x: Any, w: Any, b: Any) -> Any:
        y = conv2d_transpose(x, w, b, stride=2, padding=1)
        return (pytensor.grad((y**3).sum(), x) ** 2).sum()

    verify_gradient(penalty, arrays, rel_tol=1e-4)


def test_training_masks_and_sums_in_one_pass() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((2, 3, 3, 2), (3, 2, 4, 4), (2,))]
    inputs = symbols(*arrays)
    y = relu(conv2d_transpose(*inputs, stride=2, padding=1))
    outputs = pytensor.grad((y**3).sum(), inputs)
    run, plain = function(inputs, outputs), function(inputs, outputs, kernels=False)
    names = [str(node.op).split("{")[0] for node in run.maker.fgraph.toposort()]
    assert not {"Activation", "ChannelSum"} & set(names)
    assert names.count("ActivationGradient") == 1
    for fast, slow in zip(run(*arrays), plain(*arrays), strict=True):
        np.testing.assert_allclose(fast, slow, rtol=1e-10, atol=1e-10)


def test_what_does_not_fit() -> None:
    x, w, b = pt.ftensor4(), pt.ftensor4(), pt.fvector()
    run = function([x, w, b], conv2d_transpose(x, w, b, padding=2))
    ones = [np.ones(s, "float32") for s in ((1, 3, 2, 2), (3, 2, 3, 3), (2,))]
    with pytest.raises(ValueError, match="nothing is left"):
        run(*ones)
    with pytest.raises(ValueError, match="has 3 channels, the filters expect 4"):
        run(ones[0], np.ones((4, 2, 9, 9), "float32"), ones[2])
    with pytest.raises(ValueError, match="must have 2 elements"):
        run(ones[0], np.ones((3, 2, 9, 9), "float32"), np.ones(3, "float32"))
    with pytest.raises(TypeError, match="needs all float32 or all float64"):
        conv2d_transpose(x, w, pt.dvector())


def test_static_shapes_follow() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, 8, 7, 7))
    w = pt.tensor("w", dtype="float32", shape=(8, 4, 4, 4))
    assert conv2d_transpose(x, w, stride=2, padding=1).type.shape == (None, 4, 14, 14)


def test_same_does_not_say_how_large() -> None:
    x = pt.tensor("x", dtype="float32", shape=(None, 8, 7, 7))
    with pytest.raises(ValueError, match="padding as numbers"):
        conv2d_transpose(x, x, padding="same")
