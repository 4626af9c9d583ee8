"""Softmax regression and the linear SVM: shapes, penalties and the exact numbers of the course."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytensor
import pytest
from course import assert_matches, course_entry

from dlmie.compilation import function
from dlmie.data import Normalization
from dlmie.errors import DlmieError
from dlmie.losses import cross_entropy, multiclass_hinge
from dlmie.models import LinearSVM, Softmax
from dlmie.models.classifiers.linear import LinearClassifier

KINDS = {"svm": LinearSVM, "softmax": Softmax}
LOSSES = {"svm": multiclass_hinge, "softmax": cross_entropy}


class Learner:
    """A model in float64 with its compiled loss, penalty included, and the gradients of that."""

    def __init__(self, kind: str, shape: tuple[int, int, int], classes: int, strength: float):
        self.model = KINDS[kind](
            shape,
            [str(label) for label in range(classes)],
            regularization=strength,
            weight_scale=0.0,
            dtype="float64",
        )
        images, labels = self.model.images, self.model.labels
        total = LOSSES[kind](self.model.logits(images), labels) + self.model.penalty()
        self.weights, self.bias = self.model.linear.W, self.model.linear.b
        gradients = pytensor.grad(total, [self.weights, self.bias])
        self.run: Callable[..., list[np.ndarray]] = function([images, labels], [total, *gradients])


@functools.cache
def toy(kind: str) -> Learner:
    """Four pixels, three classes."""
    return Learner(kind, (2, 2, 1), 3, 0.1)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_the_bias_trick_of_the_course(shared: Path, kind: str) -> None:
    entry = course_entry(shared, "linear_classifier_bias_trick")
    learner = toy(kind)
    weights = np.linspace(-0.5, 0.7, 15).reshape(5, 3)
    learner.weights.set_value(weights[:4])
    learner.bias.set_value(weights[4])
    pixels = np.linspace(-1, 1, 24).reshape(6, 1, 2, 2)
    loss, d_weights, d_bias = learner.run(pixels, np.array(entry["inputs"]["y"]))
    expected = entry["expected"][kind]
    np.testing.assert_allclose(loss, expected["loss"], rtol=entry["rtol"])
    gradient = np.concatenate([d_weights, d_bias[None]])
    np.testing.assert_allclose(gradient, expected["dW"], rtol=entry["rtol"], atol=1e-13)


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_full_batch_descent_on_cifar10(shared: Path, kind: str) -> None:
    """Twenty losses, the weights and the accuracy of the course's data, to eight digits."""
    sys.path.insert(0, str(shared / "data"))
    try:
        from read_cifar10 import tiles
    finally:
        sys.path.pop(0)
    entry = course_entry(shared, "data_linear_full_batch")
    folder = shared / "data" / "cifar10"
    images, labels = tiles(folder / "train_00.webp")[:500], np.load(folder / "labels.npy")[:500]
    mean = np.load(folder / "mean_image_49000.npy")
    normalization = Normalization("mean-image", (32, 32, 3), mean, np.ones(3))
    pixels = normalization(images, "float64")
    learner = Learner(kind, (32, 32, 3), 10, 1e3)
    history = []
    for _ in range(20):
        loss, d_weights, d_bias = learner.run(pixels, labels.astype(np.int64))
        history.append(float(loss))
        for parameter, gradient in ((learner.weights, d_weights), (learner.bias, d_bias)):
            parameter.set_value(parameter.get_value() - 1e-7 * gradient)
    expected, rtol = entry["expected"][kind], entry["rtol"]
    np.testing.assert_allclose(history, expected["loss_history"], rtol=rtol)
    # The course flattens pixels with their channels last, and the bias is a last column.
    templates = learner.model.templates.reshape(10, -1).T
    assert_matches(np.concatenate([templates, learner.bias.get_value()[None]]), expected["W"], rtol)
    right = learner.model.predict(pixels).argmax(axis=1) == labels
    assert right.mean() == pytest.approx(expected["train_accuracy"])


@pytest.mark.parametrize("kind", ["svm", "softmax"])
def test_gradients_by_finite_differences(kind: str) -> None:
    learner, rng = toy(kind), np.random.default_rng(0)
    pixels, labels = rng.normal(size=(9, 1, 2, 2)), rng.integers(0, 3, 9)
    for parameter in (learner.weights, learner.bias):
        start = rng.normal(size=parameter.get_value().shape)
        parameter.set_value(start)
    for number, parameter in enumerate((learner.weights, learner.bias), 1):
        start = parameter.get_value()
        gradient = learner.run(pixels, labels)[number]
        for place in np.ndindex(start.shape):
            losses = []
            for step in (1e-6, -1e-6):
                moved = start.copy()
                moved[place] += step
                parameter.set_value(moved)
                losses.append(float(learner.run(pixels, labels)[0]))
            parameter.set_value(start)
            slope = (losses[0] - losses[1]) / 2e-6
            np.testing.assert_allclose(gradient[place], slope, rtol=1e-6, atol=1e-8)


def test_first_losses_without_weights() -> None:
    pixels, labels = np.ones((4, 1, 2, 2)), np.array([0, 1, 2, 0])
    for kind, expected in (("svm", 2.0), ("softmax", np.log(3))):
        learner = toy(kind)
        learner.weights.set_value(np.zeros((4, 3)))
        learner.bias.set_value(np.zeros(3))
        np.testing.assert_allclose(learner.run(pixels, labels)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [Softmax, LinearSVM])
def test_a_model_says_what_it_is(kind: type[LinearClassifier]) -> None:
    model = kind((4, 3, 1), ["a", "b", "c"], weight_scale=0.5, regularization=0.25, seed=7)
    assert [p.name for p in model.parameters] == ["/linear/W", "/linear/b"]
    again = kind((4, 3, 1), ["a", "b", "c"], **model.config)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.linear.W.get_value(), model.linear.W.get_value())
    assert 0.3 < model.linear.W.get_value().std() < 0.7
    assert model.linear.b.get_value().tolist() == [0, 0, 0]
    assert model.logits(model.images).type.dtype == "float32"
    assert model.penalty().type.dtype == "float32"
    assert model.templates.shape == (3, 4, 3, 1)


def test_a_template_is_the_gradient_of_its_score() -> None:
    learner = toy("softmax")
    learner.weights.set_value(np.arange(12.0).reshape(4, 3))
    image = np.zeros((1, 1, 2, 2))
    base = learner.model.predict(image)[0]
    image[0, 0, 1, 0] = 1
    change = learner.model.predict(image)[0] - base
    np.testing.assert_allclose(change, learner.model.templates[:, 1, 0, 0])


def test_options_that_cannot_be() -> None:
    for shape, classes in (((0, 3, 1), ["a", "b"]), ((2, 2, 1), ["a"])):
        with pytest.raises(DlmieError, match="needs images with pixels and two classes"):
            Softmax(shape, classes)
    with pytest.raises(DlmieError, match=r"regularization is -1\.0"):
        Softmax((2, 2, 1), ["a", "b"], regularization=-1.0)
    other = Normalization("none", (4, 4, 1), np.zeros(1), np.ones(1))
    with pytest.raises(DlmieError, match="does not fit images of"):
        Softmax((2, 2, 1), ["a", "b"], normalization=other)
