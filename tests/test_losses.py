"""Losses against NumPy definitions, finite differences and the course's numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from course import assert_matches, course_entry

from dlmie import losses
from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.generation.options import OBJECTIVES

Compiled = Callable[..., list[np.ndarray]]
Loss = Callable[..., pt.TensorVariable]


def hinge_by_numpy(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    each = np.zeros(len(scores))
    for row, (s, y) in enumerate(zip(scores, labels, strict=True)):
        each[row] = sum(max(0.0, s[j] - s[y] + 1) for j in range(len(s)) if j != y)
    return each


def entropy_by_numpy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def binary_by_numpy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.maximum(logits, 0) - targets * logits + np.log1p(np.exp(-np.abs(logits)))


LABELLED: Mapping[str, tuple[Loss, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "hinge": (losses.multiclass_hinge, hinge_by_numpy),
    "cross-entropy": (losses.cross_entropy, entropy_by_numpy),
}
ELEMENTWISE: Mapping[str, tuple[Loss, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "squared": (losses.squared_error, lambda p, t: (p - t) ** 2),
    "binary": (losses.binary_cross_entropy, binary_by_numpy),
}


@functools.cache
def compiled(name: str, dtype: str) -> Compiled:
    """(first argument, truth) → each loss, their mean, their sum, the gradient of the mean."""
    loss, _ = (LABELLED | dict(ELEMENTWISE))[name]
    first = pt.matrix(dtype=dtype)
    truth = pt.vector(dtype="int64") if name in LABELLED else pt.matrix(dtype="float64")
    every = [loss(first, truth, reduction=how) for how in ("none", "mean", "sum")]
    assert {one.type.dtype for one in every} == {dtype}
    made: Compiled = function([first, truth], [*every, pytensor.grad(every[1], first)])
    return made


def case(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(scale=2, size=(7, 5)).astype(dtype)
    truth = rng.integers(0, 5, 7) if name in LABELLED else rng.random((7, 5))
    return first, truth


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["hinge", "cross-entropy", "squared", "binary"])
def test_values_are_those_of_numpy(name: str, dtype: str) -> None:
    first, truth = case(name, dtype)
    oracle = (LABELLED | dict(ELEMENTWISE))[name][1]
    expected = oracle(first.astype(np.float64), truth)
    each, mean, total, _ = compiled(name, dtype)(first, truth)
    rtol = 1e-12 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(each, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(mean, expected.mean(), rtol=rtol)
    np.testing.assert_allclose(total, expected.sum(), rtol=rtol)


@pytest.mark.parametrize("name", ["hinge", "cross-entropy", "squared", "binary"])
def test_gradients_by_finite_differences(name: str) -> None:
    first, truth = case(name, "float64")
    run = compiled(name, "float64")
    gradient, step = run(first, truth)[3], 1e-6
    for place in np.ndindex(first.shape):
        up, down = first.copy(), first.copy()
        up[place] += step
        down[place] -= step
        slope = (run(up, truth)[1] - run(down, truth)[1]) / (2 * step)
        np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-8)
    single = compiled(name, "float32")(first.astype(np.float32), truth)[3]
    np.testing.assert_allclose(single, gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["hinge", "cross-entropy"])
@pytest.mark.parametrize("label", [-1, 5])
def test_labels_of_no_class_are_an_error(name: str, label: int) -> None:
    first, truth = case(name, "float64")
    truth[3] = label
    with pytest.raises((ValueError, AssertionError), match="is not"):
        compiled(name, "float64")(first, truth)


def test_at_the_hinge_the_gradient_is_zero() -> None:
    scores = np.array([[1.0, 0.0, 2.0, -1.0, 0.0]])
    each, _, _, gradient = compiled("hinge", "float64")(scores, np.array([2]))
    assert each.tolist() == [0]
    assert gradient.tolist() == [[0] * 5]


def test_logits_of_any_size() -> None:
    logits = np.array([[1e4, -1e4, 40.0, -40.0, 0.0]])
    right, wrong = np.array([[1.0, 0, 1, 0, 1]]), np.array([[0.0, 1, 0, 1, 0]])
    run = compiled("binary", "float64")
    tiny = np.exp(-40.0)
    np.testing.assert_allclose(run(logits, right)[0][0], [0, 0, tiny, tiny, np.log(2)], rtol=1e-9)
    np.testing.assert_allclose(run(logits, wrong)[0][0], [1e4, 1e4, 40, 40, np.log(2)], rtol=1e-9)
    assert np.isfinite(run(logits, wrong)[3]).all()


def test_label_smoothing() -> None:
    logits, labels = case("cross-entropy", "float64")
    smooth = losses.cross_entropy(pt.constant(logits), pt.constant(labels), label_smoothing=0.1)
    uniform = np.mean([entropy_by_numpy(logits, np.full(7, c)).mean() for c in range(5)])
    expected = 0.9 * entropy_by_numpy(logits, labels).mean() + 0.1 * uniform
    np.testing.assert_allclose(function([], smooth)(), expected, rtol=1e-12)


def test_sum_of_squares() -> None:
    parts = [pt.constant(np.arange(4.0)), pt.constant(np.full((2, 2), 3.0))]
    assert float(function([], losses.sum_of_squares(parts))()) == 14 + 36
    with pytest.raises(DlmieError, match="no parameters"):
        losses.sum_of_squares([])


def test_an_unknown_reduction() -> None:
    with pytest.raises(DlmieError, match="'none', 'mean' or 'sum', not 'average'"):
        losses.squared_error(pt.vector(), pt.vector(), reduction="average")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "prefix"), [("hinge", "svm"), ("cross-entropy", "softmax")])
def test_the_numbers_of_the_course(shared: Path, name: str, prefix: str) -> None:
    entry = course_entry(shared, "svm_softmax_loss")
    stream = np.random.RandomState(entry["inputs"]["seed"])
    scores, labels = 0.001 * stream.randn(50, 10), stream.randint(10, size=50)
    _, mean, _, gradient = compiled(name, "float64")(scores, labels)
    rtol = entry["rtol"]
    np.testing.assert_allclose(mean, entry["expected"][f"{prefix}_loss"], rtol=rtol)
    assert_matches(gradient, entry["expected"][f"{prefix}_dx"], rtol)
    single = compiled(name, "float32")(scores.astype(np.float32), labels)
    np.testing.assert_allclose(single[1], mean, rtol=1e-6)
    np.testing.assert_allclose(single[3], gradient, atol=1e-7)


def test_advantages_are_constants_of_a_policy() -> None:
    values = pt.vector("values", dtype="float64")
    logits, actions = pt.constant(np.zeros((2, 3))), pt.constant([0, 2])
    loss = losses.policy_gradient(logits, actions, 1 - values)
    slope = pytensor.grad(loss, values, disconnected_inputs="ignore")
    assert not slope.eval({values: np.ones(2)}).any()


def test_each_adversarial_game_has_its_options() -> None:
    assert losses.GAMES.keys() == OBJECTIVES.keys()
