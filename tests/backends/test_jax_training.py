"""Training steps and whole runs on JAX beside the C kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioning_cases import make_cache, make_data, make_step
from classification_cases import KINDS
from classification_cases import make_data as make_labelled
from classification_cases import make_step as make_classifier_step
from killed_runs import check_equal, drive

import dlmie
from dlmie import optim
from dlmie.backends.choice import using_backend
from dlmie.captioning.decoding import beam_search
from dlmie.data.batches import Batches
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.models import ConvNet, VanillaGAN, WassersteinGAN
from dlmie.training.step import TrainingStep

jax = pytest.importorskip("jax", reason="needs JAX: pip install dlmie[gpu]")

State = dict[str, np.ndarray]


def train(
    make: Callable[[], TrainingStep], batches: list[Any], backend: str
) -> tuple[list[dict[str, float]], State, TrainingStep]:
    """What each step measured, the state after the last one, and the step."""
    with using_backend(backend):
        step = make()
        step.progress = False
        sums = [step(batch).sums for batch in batches]
        return sums, {name: v.get_value() for name, v in step.state.items()}, step


def check_equal_training(
    make: Callable[[], TrainingStep], batches: list[Any], *, tolerance: float
) -> tuple[TrainingStep, TrainingStep]:
    """Losses and all state after the last step, relative to the largest number of each."""
    (c_sums, c, one), (sums, found, other) = (train(make, batches, b) for b in ("c", "jax"))
    for wanted, measured in zip(c_sums, sums, strict=True):
        assert measured == pytest.approx(wanted, rel=tolerance)
    assert sorted(found) == sorted(c)
    for name, value in found.items():
        assert type(value) is np.ndarray
        assert value.dtype == c[name].dtype
        scale = max(float(np.abs(c[name]).max()), 1e-6)
        assert np.abs(value - c[name]).max() <= tolerance * scale, name
    return one, other


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    return make_data(tmp_path_factory.mktemp("captions"))


@pytest.fixture(scope="module")
def cache(data: Captions, tmp_path_factory: pytest.TempPathFactory) -> Features:
    return make_cache(data, tmp_path_factory.mktemp("features") / "blocks.h5")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledImages:
    return make_labelled(tmp_path_factory.mktemp("labelled"))


def batches_of(data: Captions, cache: Features, length_step: int) -> list[Any]:
    read = partial(cache.read, "train")
    return list(Batches(data["train"], read, batch=8, length_step=length_step))


def test_ten_steps_of_show_attend_tell_with_dropout(data: Captions, cache: Features) -> None:
    """The same masks: the noise is the same integers.  Then the same captions."""
    options = {"model_options": {"dropout": 0.5}, "alpha_penalty": 0.5, "label_smoothing": 0.1}
    make = partial(make_step, data, cache.shape, attend=True, **options)
    batches = batches_of(data, cache, 4)[:10]
    assert len(batches) == 10
    c, other = check_equal_training(make, batches, tolerance=2e-5)
    found = []
    for step, backend in ((c, "c"), (other, "jax")):
        with using_backend(backend), step.averaged():
            total, words = step.model.loss_function(batches[0].inputs, batches[0].tokens)
            begin = step.model.decoder.begin(cache.read("dev", np.arange(6)))
            decoded = beam_search(*begin, beam=3, n_best=2)
            found.append((float(total / words), decoded))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    for ours, theirs in zip(found[1][1], found[0][1], strict=True):
        for caption, wanted in zip(ours, theirs, strict=True):
            assert caption.words == wanted.words
            assert caption.log_probability == pytest.approx(wanted.log_probability, abs=1e-4)
            np.testing.assert_allclose(caption.extras["alphas"], wanted.extras["alphas"], atol=1e-5)


def test_padding_to_steps_of_four_changes_no_loss(data: Captions, cache: Features) -> None:
    plain, stepped = (batches_of(data, cache, step)[:4] for step in (1, 4))
    assert any(a.tokens.shape != b.tokens.shape for a, b in zip(plain, stepped, strict=True))
    assert all((batch.tokens.shape[1] - 1) % 4 == 0 for batch in stepped)
    make = partial(make_step, data, cache.shape)
    results = [train(make, batches, "c")[0] for batches in (plain, stepped)]
    for a, b in zip(*results, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)


def test_few_shapes_are_compiled(data: Captions, cache: Features) -> None:
    """An epoch meets a handful of lengths, where exact ones are many more."""

    def shapes(length_step: int) -> int:
        return len({batch.tokens.shape for batch in batches_of(data, cache, length_step)})

    assert shapes(4) < shapes(1)
    assert shapes(4) <= 4


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "convnet"])
def test_classifiers(kind: str, labelled: LabelledImages) -> None:
    make = partial(make_classifier_step, labelled, kind=KINDS[kind])
    check_equal_training(make, classifier_batches(labelled), tolerance=2e-5)


def classifier_batches(data: LabelledImages, count: int = 3) -> list[dict[str, np.ndarray]]:
    """Noise with the shape of normalized images."""
    rng, (rows, columns, channels) = np.random.default_rng(0), data.shape
    return [
        {
            "images": rng.standard_normal((8, channels, rows, columns)).astype("float32"),
            "labels": rng.integers(0, len(data.classes), 8),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_classifier_with_normalization_and_dropout(norm: str, labelled: LabelledImages) -> None:
    def make() -> TrainingStep:
        model = ConvNet(labelled.shape, labelled.classes, norm=norm, stages=(3, 4), keep=0.8)
        return dlmie.compile(model, optim.sgd(1e-2), seed=1)

    check_equal_training(make, classifier_batches(labelled), tolerance=2e-5)


@pytest.mark.parametrize("kind", [VanillaGAN, pytest.param(WassersteinGAN, marks=pytest.mark.slow)])
def test_generators(kind: Any) -> None:
    """The second takes gradients of gradients, and its batch norm multiplies what is rounded."""
    images = np.random.default_rng(0).uniform(-1, 1, (4, 1, 28, 28))

    def make() -> TrainingStep:
        model = kind((28, 28, 1), latent=8, dtype="float64")
        return dlmie.compile(model, optim.sgd(1e-3), seed=1)

    check_equal_training(make, [{"images": images}] * 2, tolerance=1e-9)


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_is_not(tmp_path: Path) -> None:
    drive("jax", tmp_path, kills=2, seed=1)
    check_equal(tmp_path)
