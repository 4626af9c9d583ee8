"""Scores of classifiers: accuracy, by class, and what is confused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classification_cases import make_data

from dlmie.classification import ClassScores, evaluate
from dlmie.data import LabelledImages, Normalization
from dlmie.errors import DataError
from dlmie.models import Softmax


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    return make_data(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def model(data: LabelledImages) -> Softmax:
    """Takes every image for the color of which it has most; red for blue."""
    made = Softmax(data.shape, data.classes, normalization=Normalization.of(data, "none"))
    weights = np.zeros((3, 16, 3), np.float32)  # channel, pixel, class
    weights[2, :, 0] = weights[1, :, 1] = weights[0, :, 0] = 0.01
    made.linear.W.set_value(weights.reshape(48, 3))
    return made


def test_the_numbers(model: Softmax, data: LabelledImages) -> None:
    split = data["train"]
    scores = evaluate(model, split, batch=7)
    labels = split.labels
    logits = model.predict(model.normalization(split.images))
    np.testing.assert_array_equal(scores.predicted, logits.argmax(axis=1))
    expected = np.zeros((3, 3), int)
    for true, said in zip(labels, scores.predicted, strict=True):
        expected[true, said] += 1
    np.testing.assert_array_equal(scores.confusion, expected)
    assert scores.confusion[2, 2] == 0
    assert scores.accuracy == (scores.predicted == labels).mean()
    assert scores.per_class["red"] == 0
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    assert scores.loss == pytest.approx(losses.mean(), rel=1e-5)
    document = scores.to_json()
    assert set(document) == {"accuracy", "loss", "per_class", "confusion", "protocol"}
    assert scores.protocol["images"] == 60
    assert scores.protocol["data_hash"] == split.hash


def test_as_text(model: Softmax, data: LabelledImages) -> None:
    text = str(evaluate(model, data["dev"]))
    assert text.startswith("accuracy 0.")
    assert "20 images of dev" in text
    (line,) = (line for line in text.splitlines() if line.startswith("red"))
    assert "0.000" in line
    assert "blue" in line


def test_a_class_without_images() -> None:
    confusion = np.array([[2, 0, 0], [1, 1, 0], [0, 0, 0]])
    protocol: dict[str, object] = {"split": "dev", "images": 4}
    scores = ClassScores(["a", "b", "c"], confusion, 0.5, np.zeros(4, int), protocol)
    assert scores.accuracy == 0.75
    assert scores.per_class == {"a": 1, "b": 0.5, "c": None}
    assert "none there" in str(scores)


def test_a_split_of_other_classes(data: LabelledImages, tmp_path: Path) -> None:
    other = Softmax(data.shape, ["x", "y", "z"])
    with pytest.raises(DataError, match="has the classes blue, green, red; the model knows x"):
        evaluate(other, data["dev"])
