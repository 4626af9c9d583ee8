"""Classifiers that are networks: what they are made of, and options that cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.layers import Noise
from dlmie.models import ConvNet, FullyConnected, ThreeLayerConvNet, TwoLayerNet
from dlmie.models.classifiers.network import NetworkClassifier

SHAPE, CLASSES = (8, 9, 3), ["a", "b", "c"]
MODELS: list[tuple[type[NetworkClassifier], dict[str, Any], int, tuple[int, ...]]] = [
    (TwoLayerNet, {"hidden": 7, "regularization": 0.5}, 4, (7, 8, 9, 3)),
    (FullyConnected, {"sizes": [7, 5], "norm": "batch", "keep": 0.5}, 14, (7, 8, 9, 3)),
    (FullyConnected, {"sizes": "7", "norm": "layer", "weight_scale": 0.1}, 6, (7, 8, 9, 3)),
    (ThreeLayerConvNet, {"filters": 4, "filter_size": 5, "hidden": 6}, 6, (4, 5, 5, 3)),
    (ConvNet, {"stages": (4, 6), "keep": 0.8}, 22, (4, 3, 3, 3)),
    (ConvNet, {"stages": "4", "norm": "none"}, 6, (4, 3, 3, 3)),
]


@pytest.mark.parametrize(("kind", "options", "count", "templates"), MODELS)
def test_a_model_says_what_it_is(
    kind: type[NetworkClassifier],
    options: dict[str, Any],
    count: int,
    templates: tuple[int, ...],
) -> None:
    model = kind(SHAPE, CLASSES, seed=3, **options)
    assert len(model.parameters) == count
    assert model.templates.shape == templates
    again = kind(SHAPE, CLASSES, **model.config)  # type: ignore[arg-type]
    for one, other in zip(model.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(one.get_value(), other.get_value())
    assert {str(p.name).rsplit("/", 1)[1] for p in model.regularized} == {"W"}
    logits, updates = model.train(model.images, Noise())
    assert logits.type.dtype == model.logits(model.images).type.dtype == "float32"
    assert logits.type.shape == (None, 3)
    statistics = {str(p.name) for p in model.parameters if "trainable" not in p.roles}
    assert {str(variable.name) for variable, _ in updates} == statistics
    assert bool(statistics) == (model.config.get("norm") == "batch")


def test_dropout_is_for_training_only() -> None:
    model = FullyConnected(SHAPE, CLASSES, sizes=[50], keep=0.5)
    logits, _ = model.train(model.images, Noise())
    run = function([model.images], [logits, model.logits(model.images)])
    x = np.ones((2, 3, 8, 9), np.float32)
    (one, plain), (other, same) = run(x), run(x)
    np.testing.assert_array_equal(plain, same)
    assert not np.array_equal(one, plain)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_a_template_is_what_a_unit_weighs() -> None:
    model = TwoLayerNet(SHAPE, CLASSES, hidden=4)
    x = np.zeros((1, 3, 8, 9), np.float32)
    x[0, 2, 5, 1] = 1
    first = model.layers.layers[1]
    hidden = function([model.images], first(model.images.flatten(2)))(x)[0]
    np.testing.assert_allclose(model.templates[:, 5, 1, 2], hidden, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (TwoLayerNet, {"hidden": 0}, "sizes must be whole numbers above 0"),
        (FullyConnected, {"sizes": "50,x"}, "such as 100,50: not '50,x'"),
        (FullyConnected, {"sizes": []}, "sizes must be whole numbers above 0"),
        (FullyConnected, {"norm": "bach"}, "there is no norm 'bach'; did you mean 'batch'"),
        (FullyConnected, {"keep": 0.0}, r"keep is 0\.0; it must be above 0 and at most 1"),
        (FullyConnected, {"keep": 1.5}, r"keep is 1\.5"),
        (ThreeLayerConvNet, {"filter_size": 4}, "filter_size is 4; it must be odd"),
        (ThreeLayerConvNet, {"filters": 0}, "filters must be whole numbers above 0"),
        (ConvNet, {"stages": [4, 4, 4, 4]}, "it needs pixels, at least 16 × 16, not 8 × 9"),
    ],
)
def test_options_that_cannot_be(
    kind: type[NetworkClassifier], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DlmieError, match=message):
        kind(SHAPE, CLASSES, **options)
