"""Softmax and cross-entropy: NumPy, finite differences, extremes, masks, smoothing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import Case, threads

from dlmie.compilation import function
from dlmie.ops.losses.cross_entropy import (
    CrossEntropyGradient,
    log_softmax,
    softmax,
    softmax_cross_entropy,
)

SHAPES = [(1, 1), (1, 17), (5, 3), (4, 40), (33, 1000)]


@functools.cache
def entropy(dtype: str, masked: bool, smoothing: float) -> Case:
    def build(logits: pt.TensorVariable, targets: pt.TensorVariable, *mask: pt.TensorVariable):
        return [softmax_cross_entropy(logits, targets, *mask, label_smoothing=smoothing)]

    dtypes = [dtype, "int64", dtype][: 2 + masked]
    return Case(build, dtypes, [2, 1, 1][: 2 + masked], 1)


def data(shape: tuple[int, int], dtype: str, masked: bool) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    logits = (3 * random.normal(size=shape)).astype(dtype)
    targets = random.integers(shape[1], size=shape[0])
    mask = (random.random(shape[0]) < 0.6).astype(dtype)
    return [logits, targets, mask][: 2 + masked]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float, masked: bool, dtype: str) -> None:
    case = entropy(dtype, masked, smoothing)
    for count in (1, 2):
        with threads(count):
            for shape in SHAPES:
                case.check_against_numpy(*data(shape, dtype, masked))
    if dtype == "float64":
        for shape in SHAPES:
            case.check_finite_differences(*data(shape, dtype, masked))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", [softmax, log_softmax])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_softmax(op, ndim: int, dtype: str) -> None:
    case = Case(lambda x: [op(x)], [dtype], [ndim], 1)
    for shape in [(7,), (1, 1), (3, 5), (2, 3, 17)]:
        if len(shape) == ndim:
            x = np.random.default_rng(0).normal(size=shape).astype(dtype)
            case.check_against_numpy(x)
            if dtype == "float64":
                case.check_finite_differences(x)


def test_large_and_infinite_logits() -> None:
    x = np.array([[1e4, -1e4, 0], [-np.inf, 1, 2], [88, 89, 90], [-500, -501, -502]], "float32")
    logs, plain = function([], [log_softmax(x), softmax(x)])()
    exact = x.astype("float64") - np.logaddexp.reduce(x.astype("float64"), axis=1, keepdims=True)
    np.testing.assert_allclose(logs, exact, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(plain, np.exp(exact), rtol=1e-6)
    loss = function([], softmax_cross_entropy(x, np.array([0, 2, 1, 0])))()
    np.testing.assert_allclose(loss, -exact[range(4), [0, 2, 1, 0]], rtol=1e-5, atol=1e-6)


def test_nan_stays_visible() -> None:
    x = np.array([[0, np.nan, 1], [0, 1, 2]], "float32")
    loss = function([], softmax_cross_entropy(x, np.array([0, 0])))()
    assert np.isnan(loss[0])
    assert np.isfinite(loss[1])


def test_label_smoothing_is_cross_entropy_with_spread_targets() -> None:
    logits, targets = data((6, 9), "float64", False)
    spread = np.full((6, 9), 0.2 / 9)
    spread[np.arange(6), targets] += 0.8
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    loss = function([], softmax_cross_entropy(logits, targets, label_smoothing=0.2))()
    np.testing.assert_allclose(loss, -(spread * logs).sum(axis=1), rtol=1e-12)


def test_masked_rows_may_hold_anything() -> None:
    logits, targets, _ = data((4, 5), "float64", True)
    inputs = [pt.dmatrix(), pt.lvector(), pt.dvector()]
    run = function(inputs, softmax_cross_entropy(*inputs))
    mask = np.array([1.0, 0, 1, 0])
    loss = run(logits, targets, mask)
    logits[1], targets[3] = np.nan, 99
    assert (run(logits, targets, mask) == loss).all()
    assert (loss[[1, 3]] == 0).all()
    with pytest.raises(ValueError, match="target 99 of row 3"):
        run(logits, targets, np.ones(4))


def test_second_derivative_of_softmax() -> None:
    for op in (softmax, log_softmax):

        def build(x: pt.TensorVariable, op=op):
            k = pt.constant(np.random.default_rng(0).normal(size=(3, 4)))
            return [pytensor.grad((op(x) * k).sum(), x)]

        case = Case(build, ["float64"], [2], 1)
        case.check_finite_differences(np.random.default_rng(2).normal(size=(3, 4)))


def test_large_logits_keep_their_precision() -> None:
    x = (500 + np.random.default_rng(0).normal(size=(3, 50))).astype("float32")
    logits = pt.fmatrix()
    loss = softmax_cross_entropy(logits, np.array([0, 1, 2]))
    gradient = function([logits], pytensor.grad(loss.sum(), logits))(x)
    wide = x.astype("float64")
    exact = np.exp(wide - np.logaddexp.reduce(wide, axis=1, keepdims=True))
    exact[range(3), range(3)] -= 1
    np.testing.assert_allclose(gradient, exact, rtol=2e-6, atol=1e-8)


def test_gradients_take_the_place_of_logits_nobody_needs() -> None:
    x, w = pt.fmatrix(), pt.fmatrix()
    logits = x @ w
    loss = softmax_cross_entropy(logits, np.array([0, 1])).sum()
    gradient = pytensor.grad(loss, w)

    def in_place(run: Any) -> list[int | None]:
        nodes = run.maker.fgraph.toposort()
        return [n.op.overwrites for n in nodes if isinstance(n.op, CrossEntropyGradient)]

    alone, shown = function([x, w], gradient), function([x, w], [gradient, logits])
    assert in_place(alone) == [0]
    assert in_place(shown) == [None]
    data = [np.random.default_rng(0).normal(size=(n, 3)).astype("f") for n in (2, 3)]
    np.testing.assert_array_equal(alone(*data), shown(*data)[0])
    np.testing.assert_allclose(shown(*data)[1], data[0] @ data[1], rtol=1e-5)
