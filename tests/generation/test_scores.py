"""Scores of generated images, the pictures of a training, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classification_cases import make_data, make_step

import dlmie
from dlmie.data import LabelledImages
from dlmie.errors import CollapseWarning, DataError, DlmieError
from dlmie.generation import evaluate
from dlmie.generation.album import Album, grid
from dlmie.generation.evaluation import (
    GenerationScores,
    Scorer,
    frechet_distance,
    mean_distance,
    reduced,
)
from dlmie.models import DCGAN, Softmax, TwoLayerNet, VanillaGAN


class Copier:
    """A generator that gives images it was handed, as they are."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.shape = images, images.shape[1:]
        self.latent = 3

    def sample(self, count: int, *, seed: int = 0) -> np.ndarray:
        chosen = np.random.default_rng(seed).integers(len(self.images), size=count)
        return self.images[chosen]

    def render(self, noise: np.ndarray) -> np.ndarray:
        return self.images[: len(noise)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    return make_data(tmp_path_factory.mktemp("colors"))


def test_frechet_distance_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 3)) for _ in range(2))
    one, other = (np.zeros(3), a @ a.T), (np.array([1.0, 2, 2]), b @ b.T)
    from scipy.linalg import sqrtm

    root = np.trace(sqrtm(one[1] @ other[1])).real
    expected = 9 + np.trace(one[1]) + np.trace(other[1]) - 2 * root
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-7)


def test_reduced_images_are_means_of_fields() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    found = reduced(images).reshape(2, 7, 7)
    expected = images.reshape(2, 7, 4, 7, 4).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert reduced(images[:, :5, :3]).shape == (2, 5 * 3)


def test_mean_distance() -> None:
    assert mean_distance(np.array([[0.0, 0], [3, 4], [0, 0]])) == pytest.approx(10 / 3)


def test_real_images_score_best(data: LabelledImages) -> None:
    split = data["train"]
    score = Scorer(split, images=60)
    real = score(Copier(split.images))  # type: ignore[arg-type]
    noise = np.random.default_rng(0).integers(0, 256, split.images.shape, np.uint8)
    drawn = score(Copier(noise))  # type: ignore[arg-type]
    assert real.pixel_frechet < 0.1 * drawn.pixel_frechet
    assert real.diversity == pytest.approx(1, abs=0.1)
    assert real.warnings == []
    one = score(Copier(split.images[:1]))  # type: ignore[arg-type]
    assert one.diversity == pytest.approx(0, abs=1e-6)
    assert "mode collapse" in one.warnings[0]


def test_one_class_alone_is_warned_of() -> None:
    shares = {"1": 0.97, "2": 0.02, "3": 0.01, "4": 0.0}
    scores = GenerationScores(0.1, 1.0, shares, 0.9, 3.0)
    assert scores.classes == 3
    assert scores.evenness is not None
    assert scores.evenness < 0.2
    assert scores.warnings == ["mode collapse? 97 % of the images are 1"]
    even = GenerationScores(0.1, 1.0, {"1": 0.5, "2": 0.5}, 0.9, 3.0)
    assert even.evenness == pytest.approx(1)
    assert even.warnings == []


def test_a_classifier_scores_images(data: LabelledImages, tmp_path: Path) -> None:
    step = make_step(data, kind=TwoLayerNet)
    run = dlmie.train(step, data, to=tmp_path / "run", epochs=4, batch=16, progress=False)
    split = data["train"]
    score = Scorer(split, dlmie.load(run.folder), images=60)
    copier: Any = Copier(split.images)
    scores = score(copier)
    noise: Any = Copier(np.random.default_rng(0).integers(0, 256, split.images.shape, np.uint8))
    drawn = score(noise)
    assert scores.histogram is not None
    assert scores.confidence is not None
    assert scores.frechet is not None
    np.testing.assert_allclose(list(scores.histogram.values()), 1 / 3, atol=0.2)
    assert scores.confidence > 0.6
    assert drawn.frechet is not None
    assert scores.frechet < 0.2 * drawn.frechet
    document = scores.to_json()
    assert document["classes"] == 3
    assert "3 of 3 classes" in str(scores)


def test_classifiers_without_features_are_refused(data: LabelledImages) -> None:
    with pytest.raises(DataError, match="softmax has no features: train a two-layer net"):
        Scorer(data["train"], Softmax(data.shape, data.classes))
    with pytest.raises(DataError, match="for images of"):
        Scorer(data["train"], Softmax((8, 8, 3), data.classes))
    with pytest.raises(DataError, match="the model makes"):
        evaluate(VanillaGAN((8, 8, 3)), data["train"])


def test_monitors_that_need_a_classifier(data: LabelledImages, tmp_path: Path) -> None:
    step = dlmie.compile(VanillaGAN(data.shape, latent=4))
    with pytest.raises(DlmieError, match="name a trained one by --classifier"):
        dlmie.train(step, data, to=tmp_path / "run", monitor="frechet", progress=False)


def test_a_run_opens_its_classifier_once(
    data: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def load(source: str) -> TwoLayerNet:
        opened.append(source)
        return TwoLayerNet(data.shape, data.classes, hidden=4)

    monkeypatch.setattr("dlmie.generation.evaluation.load_classifier", load)
    step = dlmie.compile(VanillaGAN(data.shape, latent=4))
    options = {"epochs": 2, "batch": 60, "scored_images": 20, "classifier": "digits"}
    with pytest.warns(CollapseWarning):
        run = dlmie.train(step, data, to=tmp_path / "run", progress=False, **options)
    assert opened == [str(Path("digits").resolve())]
    assert [record["frechet"] > 0 for record in run.log if "epoch" in record] == [True, True]


def test_dc_gan_says_which_images_it_makes() -> None:
    for shape in ((30, 32, 1), (12, 12, 1)):
        with pytest.raises(DlmieError, match="multiples of 4, from 16 on"):
            DCGAN(shape)


def test_album_keeps_the_whole_training_evenly() -> None:
    images = np.zeros((16, 2, 2, 1), np.uint8)
    copier: Any = Copier(images)
    album, seen = Album(copier, every=1, seed=0), 200
    for step in range(seen):
        images[...] = step
        album.count()
    state = album.state
    taken = int(state["/album/taken"].get_value())
    steps = state["/album/frames"].get_value()[:taken, 0, 0, 0].tolist()
    assert steps == list(range(0, seen, 8))


def test_grid() -> None:
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1).repeat(2, axis=1)
    assert grid(images, 2)[..., 0].tolist() == [[0, 1], [0, 1], [2, 0], [2, 0]]


def test_collapse_is_warned_of_in_training(data: LabelledImages, tmp_path: Path) -> None:
    """Before it has learned anything, a generator's images all look alike."""
    step = dlmie.compile(VanillaGAN(data.shape, latent=4), seed=0)
    step.set_learning_rate(0.0)
    with pytest.warns(CollapseWarning, match="mode collapse"):
        run = dlmie.train(step, data, to=tmp_path / "run", epochs=1, batch=60, progress=False)
    record = next(r for r in run.log if "epoch" in r)
    assert {"real", "fake", "generator_loss", "pixel_frechet", "diversity"} <= set(record)
    assert 0 < record["fake"] < 1
