"""Features of images: exactly the course's, and what models see of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from course import assert_matches, cifar10, course_entry

from dlmie.data import LabelledBatches, LabelledImages, Normalization
from dlmie.data.labelled.dataset import prepare_labelled_scenes
from dlmie.data.labelled.image_features import hog_and_hue, hog_and_hue_of_the_course
from dlmie.errors import DataError, DlmieError
from dlmie.models import ConvNet, TwoLayerNet


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    to = tmp_path_factory.mktemp("features") / "shapes.h5"
    return prepare_labelled_scenes(to, train=40, dev=10, test=10, progress=False)


def test_those_of_the_course(shared: Path) -> None:
    entry = course_entry(shared, "data_features")
    images, _, _ = cifar10(shared, "train_00")
    found = hog_and_hue_of_the_course(images)
    assert found.shape == (1000, 144 + 10)
    expected, rtol = entry["expected"], entry["rtol"]
    assert_matches(found[0], expected["image_0"], rtol, 1e-12)
    assert_matches(found[1], expected["image_1"], rtol, 1e-12)
    assert_matches(found.mean(axis=0), expected["mean_first_1000"], rtol)
    assert_matches(found, expected["first_1000"], rtol, 1e-12)


def test_a_gray_image_has_no_hue_and_an_edge_one_direction() -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, :, 16:] = 200  # a vertical edge
    images[1] = (255, 0, 0)
    found = hog_and_hue(images)
    assert found.shape == (2, 36 * 9 + 10)
    assert found.dtype == np.float32
    strongest = found[0, :-10].reshape(-1, 9).sum(axis=0)
    assert strongest.argmax() in (0, 8)
    assert strongest.max() > 0.99 * strongest.sum()
    np.testing.assert_allclose(found[0, -10:], 0.1)
    np.testing.assert_allclose(found[1, -10:], [1, *[0] * 9], atol=1e-4)
    assert hog_and_hue(images[..., :1]).shape == (2, 334)


@pytest.mark.parametrize("kind", ["hog", "hog-course"])
def test_what_a_model_sees(data: LabelledImages, kind: str) -> None:
    normalization = Normalization.of(data, kind)
    train = data["train"]
    seen = normalization.load(train, np.arange(40), "float64")
    assert seen.shape == (40, *normalization.inputs)
    np.testing.assert_allclose(seen.mean(axis=0), 0, atol=1e-6)
    spread = seen.std(axis=0)
    assert np.logical_or(np.isclose(spread, 1, atol=1e-5), spread == 0).all()
    np.testing.assert_allclose(normalization(train.images[:3], "float64"), seen[:3], atol=1e-12)
    again = Normalization.from_json(normalization.to_json(), normalization.arrays)
    np.testing.assert_array_equal(again(train.images[:3]), normalization(train.images[:3]))
    (batch,) = LabelledBatches(train, normalization, batch=40, prefetch=0)
    model = TwoLayerNet(data.shape, data.classes, normalization=normalization)
    assert model.predict(batch.images).shape == (40, 10)
    with pytest.raises(DlmieError, match=f"sees {kind}, not pixels: its weights are not images"):
        _ = model.templates


def test_what_does_not_go_with_features(data: LabelledImages) -> None:
    normalization = Normalization.of(data, "hog-course")
    with pytest.raises(DataError, match="hog-course has no pixels to flip or shift"):
        LabelledBatches(data["train"], normalization, flip=True)
    with pytest.raises(DlmieError, match="it needs pixels, at least 8 × 8, not hog-course, which"):
        ConvNet(data.shape, data.classes, normalization=normalization)
    with pytest.raises(DataError, match="images of at least 16 × 16 pixels, not 8 × 8"):
        hog_and_hue(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="need colors and multiples of 8 pixels, not 28 × 28 of 1"):
        hog_and_hue_of_the_course(np.zeros((1, 28, 28, 1), np.uint8))
