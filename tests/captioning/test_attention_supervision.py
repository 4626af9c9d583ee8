"""Attention that is trained to rest on the thing that is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from captioning_cases import make_cache, make_data, make_step

import dlmie
from dlmie.captioning.annotations import Annotations
from dlmie.captioning.objectives import TeacherForcing
from dlmie.captioning.step import CaptioningStep, targets_of
from dlmie.captioning.step import make_step as make_described_step
from dlmie.data.batches import Batch, Batches
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.captions.vocabulary import PAD
from dlmie.errors import DataError, DlmieError
from dlmie.models.captioners.captioner import Captioner


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    return make_data(tmp_path_factory.mktemp("supervised"))


@pytest.fixture(scope="module")
def cache(data: Captions) -> Features:
    return make_cache(data, data.path.with_name("blocks.h5"))


@pytest.fixture(scope="module")
def batch(data: Captions, cache: Features) -> Batch:
    read = lambda index, views: cache.read("train", index)  # noqa: E731
    return next(iter(Batches(data["train"], read, batch=24, prefetch=0)))


def attention(model: Captioner, batch: Batch) -> np.ndarray:
    """(time, batch, cells), without dropout."""
    alphas = model.loss().extras["alphas"]
    value: np.ndarray = dlmie.function([model.features, model.tokens], alphas)(
        batch.inputs, batch.tokens
    )
    return value


def test_the_loss_is_the_attention_beside_what_is_named(
    data: Captions, cache: Features, batch: Batch
) -> None:
    options = {"model_options": {"dropout": 0.0}, "label_smoothing": 0.0}
    step = make_step(data, cache.shape, attend=True, **options)
    targets = targets_of(step.model, data)
    supervised = make_step(
        data, cache.shape, attend=True, attention_supervision=0.7, targets=targets, **options
    )
    where = targets(batch.tokens, batch.image_index, batch.views)
    named = where.max(axis=2) > 0
    assert 0 < named.sum() <= named.size / 2
    inside = (attention(step.model, batch) * where).sum(axis=2)
    expected = -np.log(inside[named]).sum()

    plain, result = step(batch), supervised(batch)
    assert result.sums["attention_loss"] == pytest.approx(expected, rel=1e-4)
    assert result.sums["loss"] == pytest.approx(plain.sums["loss"], rel=1e-5)  # without the term
    assert "attention_loss" not in plain.sums


def test_attention_may_be_asked_to_rest_on_each_thing(
    data: Captions, cache: Features, batch: Batch
) -> None:
    options = {"model_options": {"dropout": 0.0}, "attend": True}
    plain = make_step(data, cache.shape, **options)
    targets = targets_of(plain.model, data, each=True)
    step = make_step(data, cache.shape, attention_supervision=0.7, targets=targets, **options)
    assert step.describe()["attention_each"] is True
    where = targets(batch.tokens, batch.image_index, batch.views)
    assert where.shape[2] > 1
    inside = (attention(plain.model, batch)[:, :, None] * where).sum(axis=3)
    expected = 0.0
    for time, row in np.argwhere(where.max(axis=(2, 3)) > 0):
        shares = inside[time, row][where[time, row].max(axis=1) > 0]
        expected -= np.log(len(shares) * shares).mean()
    assert step(batch).sums["attention_loss"] == pytest.approx(expected, rel=1e-4)
    described = {"kind": "teacher-forcing", "attention_each": True}
    with pytest.raises(DlmieError, match="--attention-each says how attention is supervised"):
        make_described_step(described, plain.model, plain.optimizer, data)


def test_attention_learns_where_things_are(data: Captions, cache: Features, batch: Batch) -> None:
    plain = make_step(data, cache.shape, attend=True)
    targets = targets_of(plain.model, data)
    supervised = make_step(
        data, cache.shape, attend=True, attention_supervision=5.0, targets=targets
    )
    where = targets(batch.tokens, batch.image_index, batch.views)
    # What the images show is bright in the first channel.
    shown = where.max(axis=0).reshape(-1, *cache.shape[1:])
    inputs = batch.inputs.copy()
    inputs[:, 0] = 4 * shown / shown.max()
    bright = replace(batch, inputs=inputs)
    shares = []
    for step in (plain, supervised):
        for _ in range(200):
            step(bright)
        best = where.max(axis=2)
        inside = (attention(step.model, bright) * where).sum(axis=2)
        shares.append((inside[best > 0] / best[best > 0]).mean())
    assert shares[1] > shares[0] + 0.1


def test_attention_that_costs_its_entropy_narrows(
    data: Captions, cache: Features, batch: Batch
) -> None:
    def entropy(step: CaptioningStep) -> float:
        alphas = attention(step.model, batch)[batch.tokens[:, 1:].T != PAD]
        return float(-(alphas * np.log(alphas)).sum(axis=-1).mean())

    steps = [
        make_step(data, cache.shape, attend=True, attention_entropy=weight) for weight in (0.0, 0.3)
    ]
    first = [entropy(step) for step in steps]
    for step in steps:
        for _ in range(60):
            step(batch)
    plain, narrow = (entropy(step) for step in steps)
    assert first[0] == first[1]
    assert narrow < 0.7 * first[0]
    assert narrow < 0.8 * plain


def test_the_entropy_is_that_of_words_not_of_padding(
    data: Captions, cache: Features, batch: Batch
) -> None:
    model = make_step(data, cache.shape, attend=True).model
    annotations = Annotations(model)
    out = model.loss()
    objective = TeacherForcing(model, annotations, attention_entropy=0.25)
    found = dlmie.function([model.features, model.tokens], objective.penalties(out, model.tokens))(
        batch.inputs, batch.tokens
    )
    alphas = attention(model, batch)[batch.tokens[:, 1:].T != PAD].astype(float)
    assert found == pytest.approx(-0.25 * (alphas * np.log(alphas)).sum(), rel=1e-5)


def test_a_run_says_how_it_was_supervised(data: Captions, cache: Features) -> None:
    step = make_step(data, cache.shape, attend=True)
    described = {**step.describe(), "attention_supervision": 0.5}
    again = make_described_step(described, step.model, step.optimizer, data)
    assert again.describe() == described
    assert "targets" in again.objective.inputs


def test_boxes_are_needed(data: Captions, cache: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DlmieError, match="attention_supervision needs boxes"):
        make_step(data, cache.shape, attend=True, attention_supervision=1.0)
    step = make_step(data, cache.shape, attend=True)
    monkeypatch.setattr(data["train"], "objects", None)
    with pytest.raises(DataError, match=r"scenes\.h5 does not say what is where.*--boxes"):
        targets_of(step.model, data)


def test_attention_is_needed(data: Captions, tmp_path: Path) -> None:
    vector = make_step(data, (5,))
    with pytest.raises(DlmieError, match="needs attention, and show-tell has none"):
        targets_of(vector.model, data)
    grid = make_step(data, (5, 2, 2))  # sees a grid, but does not attend
    targets = targets_of(grid.model, data)
    with pytest.raises(DlmieError, match="attention_supervision needs attention, and show-tell"):
        make_step(data, (5, 2, 2), attention_supervision=1.0, targets=targets)
