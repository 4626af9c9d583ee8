"""conv2d: against its NumPy definition, golden numbers, finite differences and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from conv_cases import assert_same, symbols, verify_gradient
from pytensor.graph.traversal import applys_between

from dlmie.compilation import function, get_threads, set_threads
from dlmie.ops.conv.conv import conv2d

# (x shape, w shape, options)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "valid 3x3": ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    "same 3x3": ((2, 3, 9, 10), (5, 3, 3, 3), {"padding": "same"}),
    "same, even filter": ((1, 2, 6, 7), (3, 2, 2, 4), {"padding": "same"}),
    "same, stride 2": ((2, 3, 8, 7), (4, 3, 3, 3), {"padding": "same", "stride": 2}),
    "same, stride 3, 1x1": ((1, 3, 8, 7), (4, 3, 1, 1), {"padding": "same", "stride": 3}),
    "stride 2, pad 1": ((2, 3, 8, 7), (4, 3, 3, 3), {"padding": 1, "stride": 2}),
    "stride (2, 3), pad (2, 1)": (
        (1, 2, 9, 11),
        (3, 2, 5, 3),
        {"padding": (2, 1), "stride": (2, 3)},
    ),
    "lopsided": ((2, 2, 6, 5), (3, 2, 3, 3), {"padding": ((2, 0), (1, 3))}),
    "padding beyond the filter": ((1, 1, 3, 3), (2, 1, 2, 2), {"padding": 4}),
    "dilation 2": ((1, 3, 11, 10), (2, 3, 3, 3), {"dilation": 2, "padding": 2}),
    "dilation (1, 3), stride 2": ((1, 2, 9, 12), (2, 2, 3, 3), {"dilation": (1, 3), "stride": 2}),
    "1x1": ((2, 5, 7, 3), (6, 5, 1, 1), {}),
    "1x1, pad 1": ((2, 5, 7, 3), (6, 5, 1, 1), {"padding": 1}),
    "one pixel": ((1, 1, 1, 1), (1, 1, 3, 3), {"padding": 1}),
    "whole image": ((2, 3, 5, 5), (4, 3, 5, 5), {}),
    "two groups": ((2, 6, 6, 7), (4, 3, 3, 3), {"groups": 2, "padding": 1}),
    "depthwise 3x3": ((2, 5, 9, 8), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    "depthwise 5x5, stride 2": (
        (1, 4, 13, 11),
        (4, 1, 5, 5),
        {"groups": 4, "padding": 2, "stride": 2},
    ),
    "depthwise, same, stride 2": (
        (1, 4, 14, 14),
        (4, 1, 3, 3),
        {"groups": 4, "padding": "same", "stride": 2},
    ),
    "depthwise, two filters each": ((2, 3, 6, 6), (6, 1, 3, 3), {"groups": 3, "padding": 1}),
    "depthwise, dilated": ((1, 3, 12, 9), (3, 1, 3, 3), {"groups": 3, "dilation": 3}),
    "depthwise, many channels": ((2, 37, 7, 9), (37, 1, 5, 5), {"groups": 37, "padding": "same"}),
    "depthwise, padding beyond the filter": (
        (1, 2, 4, 5),
        (4, 1, 2, 2),
        {"groups": 2, "padding": 4, "stride": (3, 2)},
    ),
    "depthwise, bands of rows": (
        (1, 3, 85, 66),
        (3, 1, 3, 4),
        {"groups": 3, "padding": 2, "stride": (1, 2)},
    ),
    "wide image": ((1, 2, 3, 70), (3, 2, 3, 3), {"padding": 1}),
    "many channels": ((1, 40, 6, 5), (33, 40, 3, 3), {"padding": 1}),
    # 3x3 with many channels: Winograd, in float32.
    "tiles": ((2, 20, 13, 9), (17, 20, 3, 3), {"padding": 1}),
    "tiles, valid, lopsided": ((1, 18, 11, 22), (70, 18, 3, 3), {"padding": ((0, 2), (1, 0))}),
    "tiles, two groups": ((2, 40, 8, 8), (36, 20, 3, 3), {"groups": 2, "padding": 1}),
    "many tiles": ((3, 16, 70, 61), (16, 16, 3, 3), {"padding": 1}),
    "many channels, rounds of tiles": ((2, 130, 40, 44), (70, 130, 3, 3), {"padding": 1}),
    # ... and of so many tiles that each thread sums gradients of filters in its cache.
    "threads' own tiles": ((30, 17, 21, 25), (33, 17, 3, 3), {"padding": 1}),
    "threads' own tiles, lopsided": (
        (20, 20, 30, 29),
        (70, 20, 3, 3),
        {"padding": ((0, 1), (2, 0))},
    ),
    "threads' own tiles, two groups": (
        (24, 34, 22, 21),
        (66, 17, 3, 3),
        {"groups": 2, "padding": 1},
    ),
    # Several small images: directly, without patches.
    "direct": ((5, 5, 12, 9), (7, 5, 5, 3), {}),
    "direct, stride 2, lopsided, panels of filters": (
        (3, 17, 23, 20),
        (70, 17, 4, 5),
        {"stride": 2, "padding": ((2, 0), (1, 3))},
    ),
    "direct, rows and columns that no filter sees": (
        (7, 6, 16, 16),
        (5, 6, 2, 3),
        {"stride": (3, 2), "padding": (1, 0)},
    ),
    "direct, two groups, dilated rows": (
        (4, 34, 12, 11),
        (20, 17, 3, 2),
        {"groups": 2, "dilation": (2, 1), "padding": 1},
    ),
    "direct, few filters": ((9, 20, 6, 6), (3, 20, 5, 5), {"padding": 2}),
    "direct, images smaller than a vector": ((70, 16, 4, 4), (18, 16, 3, 3), {}),
    "direct, padding beyond the filter": ((30, 5, 3, 3), (6, 5, 2, 2), {"padding": 4}),
    "direct, 33 channels": ((4, 33, 13, 14), (40, 33, 5, 5), {"padding": 2}),
    "direct, one channel": ((6, 1, 28, 28), (33, 1, 5, 5), {}),
    "direct, larger images": ((2, 16, 61, 52), (8, 16, 2, 5), {"stride": (1, 2)}),
    "empty batch": ((0, 3, 6, 5), (2, 3, 3, 3), {}),
}


def arrays(case: str, dtype: str) -> tuple[list[np.ndarray], dict[str, Any]]:
    x_shape, w_shape, options = CASES[case]
    random = np.random.default_rng(3)
    shapes = (x_shape, w_shape, w_shape[:1])
    return [random.normal(size=s).astype(dtype) for s in shapes], options


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_kernels_equal_numpy(case: str, dtype: str) -> None:
    (x, w, b), options = arrays(case, dtype)
    assert_same(lambda x, w, b: conv2d(x, w, b, **options), x, w, b)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
@pytest.mark.parametrize("case", ["same 3x3", "depthwise 3x3", "1x1"])
def test_fused_activation_equals_numpy(case: str, activation: Any) -> None:
    (x, w, b), options = arrays(case, "float64")
    assert_same(lambda x, w, b: conv2d(3 * x, w, b, activation=activation, **options), x, w, b)
    assert_same(lambda x, w: conv2d(3 * x, w, activation=activation, **options), x, w)


# What PyTorch lacks: 'same' with strides, lopsided padding.
IN_PYTORCH = [
    name
    for name, (x_shape, _, options) in CASES.items()
    if x_shape[0] and options.get("padding") != "same" and "lopsided" not in name
]


@pytest.mark.parametrize("case", IN_PYTORCH)
def test_equals_pytorch(case: str) -> None:
    torch = pytest.importorskip("torch")
    (x, w, b), options = arrays(case, "float64")
    inputs = symbols(x, w, b)
    y = conv2d(*inputs, **options)
    ours = function(inputs, [y, *pytensor.grad((y**2).sum(), inputs)])(x, w, b)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    out = torch.nn.functional.conv2d(*tensors, **options)
    (out**2).sum().backward()
    theirs = [out.detach(), *(t.grad for t in tensors)]
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-9, atol=1e-9)


def test_golden_numbers() -> None:
    """SPEC A9: cross-correlation, not the flipped filter of the original."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "conv_xcorr_s2p1.json").read_text())
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4)
    w = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    b = np.linspace(-0.1, 0.2, 3)
    inputs = symbols(x, w, b)
    y = function(inputs, conv2d(*inputs, stride=2, padding=1))(x, w, b)
    np.testing.assert_allclose(y, golden, rtol=1e-12)


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_error_of_the_fast_algorithm_is_bounded(channels: int) -> None:
    """conv2d's docstring: 2e-5 of the largest output; `exact` is closer still."""
    random = np.random.default_rng(0)
    x = np.maximum(random.normal(size=(2, channels, 28, 28)), 0)
    w = random.normal(size=(32, channels, 3, 3)) / channels**0.5
    results = []
    for dtype, exact in (("float64", True), ("float32", False), ("float32", True)):
        inputs = symbols(x.astype(dtype), w.astype(dtype))
        y = conv2d(*inputs, padding=1, exact=exact)
        gradients = pytensor.grad((y**2).sum(), inputs)
        results.append(function(inputs, [y, *gradients])(x.astype(dtype), w.astype(dtype)))
    for truth, fast, exact in zip(*results, strict=True):
        largest = np.abs(truth).max()
        assert np.abs(fast - truth).max() < 1e-5 * largest
        assert np.abs(exact - truth).max() < 5e-6 * largest
        assert not np.array_equal(fast, exact)  # two algorithms indeed


def test_finite_differences() -> None:
    (x, w, b), options = arrays("stride (2, 3), pad (2, 1)", "float64")
    verify_gradient(lambda x, w, b: conv2d(x, w, b, **options), [x, w, b])


def test_second_derivatives() -> None:
    """Grad of grad through x and w: the gradient operations are differentiable themselves."""
    random = np.random.default_rng(1)
    x, w = random.normal(size=(2, 2, 5, 6)), random.normal(size=(4, 1, 3, 3))
    options = {"stride": 2, "padding": 1, "groups": 2, "activation": "relu"}

    def gradient_norm(x: Any, w: Any) -> Any:
        y = conv2d(x, w, **options)
        dx, dw = pytensor.grad((y**2).sum(), [x, w])
        return (dx**2).sum() + (dw**2).sum()

    verify_gradient(gradient_norm, [x, w], rel_tol=1e-4)


@pytest.mark.parametrize("case", ["many channels", "threads' own tiles, lopsided"])
def test_results_repeat_and_any_thread_count_agrees(case: str) -> None:
    (x, w, b), options = arrays(case, "float32")
    inputs = symbols(x, w, b)
    y = conv2d(*inputs, **options)
    f = function(inputs, [y, *pytensor.grad((y**2).sum(), inputs)])
    threads = get_threads()
    first = f(x, w, b)
    for a, c in zip(first, f(x, w, b), strict=True):
        np.testing.assert_array_equal(a, c)
    try:
        set_threads(1)
        for a, c in zip(first, f(x, w, b), strict=True):
            assert np.abs(a - c).max() <= 2e-5 * np.abs(a).max()
    finally:
        set_threads(threads)


def test_static_and_symbolic_shapes() -> None:
    x = pt.tensor4("x", dtype="float32", shape=(None, 3, 224, 224))
    w = pt.tensor4("w", dtype="float32", shape=(8, 3, 3, 3))
    assert conv2d(x, w, stride=2, padding="same").type.shape == (None, 8, 112, 112)
    assert conv2d(x, w).type.shape == (None, 8, 222, 222)
    x, w = symbols(np.zeros((1, 2, 6, 7), "float32"), np.zeros((3, 2, 3, 2), "float32"))
    for options in ({}, {"padding": 1, "stride": 2}, {"padding": "same", "stride": (2, 3)}):
        y = conv2d(x, w, **options)
        shapes = function([x, w], y.shape)  # without computing y
        assert not any(
            type(n.op).__name__ == "Convolution"
            for n in applys_between(shapes.maker.fgraph.inputs, shapes.maker.fgraph.outputs)
        )
        a, b = np.zeros((1, 2, 6, 7), "float32"), np.zeros((3, 2, 3, 2), "float32")
        assert tuple(shapes(a, b)) == function([x, w], y)(a, b).shape


def test_nan_is_not_hidden_by_relu() -> None:
    x, w = np.full((1, 1, 4, 4), np.nan, "float32"), np.ones((1, 1, 3, 3), "float32")
    inputs = symbols(x, w)
    assert np.isnan(function(inputs, conv2d(*inputs, activation="relu"))(x, w)).all()


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "options", "message"),
    [
        ((1, 3, 5, 5), (2, 4, 3, 3), {}, "3 channels, the filters expect 4"),
        ((1, 3, 2, 5), (2, 3, 3, 3), {}, "does not fit"),
        ((1, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}, "do not divide"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    x_shape: Any, w_shape: Any, options: Any, message: str
) -> None:
    x, w = np.zeros(x_shape, "float32"), np.zeros(w_shape, "float32")
    inputs = symbols(x, w)
    with pytest.raises(ValueError, match=message):
        function(inputs, conv2d(*inputs, **options))(x, w)


def test_impossible_options_are_refused() -> None:
    x, w = pt.tensor4(dtype="float32"), pt.tensor4(dtype="float32")
    with pytest.raises(ValueError, match="padding must be"):
        conv2d(x, w, padding="full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stride must be"):
        conv2d(x, w, stride=0)
    with pytest.raises(ValueError, match="activation must be"):
        conv2d(x, w, activation="tanh")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="all float32 or all float64"):
        conv2d(x, pt.tensor4(dtype="float64"))
