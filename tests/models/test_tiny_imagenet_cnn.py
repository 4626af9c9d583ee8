"""The network of the course's pictures as a classifier, and its runs as weights of the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlmie
from dlmie import optim
from dlmie.classification.model_files import load, save_model
from dlmie.classification.step import compile as compile_step
from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError, WeightsError
from dlmie.models import PretrainedCNN, TinyImageNetCNN

CLASSES = ["circle", "square", "cross"]
SMALL: dict[str, Any] = {"stages": (2, 3, 4, 5, 6), "hidden": 7}


def seen(kind: str = "per-channel") -> Normalization:
    shape = (64, 64, 3)
    mean = np.array([120.0, 110.0, 100.0]) if kind == "per-channel" else np.full(shape, 99.0)
    return Normalization(kind, shape, mean, np.array([60.0, 61.0, 62.0]))


def small(**options: Any) -> TinyImageNetCNN:
    normalization = options.pop("normalization", seen())
    sizes = {**SMALL, **options}
    return TinyImageNetCNN((64, 64, 3), CLASSES, normalization=normalization, **sizes)


def test_the_architecture_is_that_of_the_encoder() -> None:
    model = TinyImageNetCNN((64, 64, 3), CLASSES)
    encoder = PretrainedCNN(classes=3)
    shapes = [{str(p.name): p.type.shape for p in net.parameters} for net in (model, encoder)]
    assert shapes[0] == shapes[1]
    assert model.templates.shape == (64, 5, 5, 3)


def test_it_learns_and_the_encoder_takes_its_weights(tmp_path: Path) -> None:
    model = small(stages=(4, 6, 8, 10, 12), hidden=16, keep=0.8)
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    # Stripes of three directions, in noise.
    waves = np.sin(np.arange(64) * 0.8)
    kinds = [np.tile(waves, (64, 1)), np.tile(waves[:, None], (1, 64)), np.zeros((64, 64))]
    pixels = np.stack([128 + 60 * kinds[k][..., None] for k in labels]).repeat(3, axis=3)
    pixels = np.clip(pixels + rng.normal(0, 10, pixels.shape), 0, 255).astype(np.uint8)
    images = model.normalization(pixels)
    step = compile_step(model, optim.adam(1e-2), label_smoothing=0.1)
    step.progress = False
    losses = [step({"images": images, "labels": labels}).sums["loss"] / 24 for _ in range(30)]
    assert losses[-1] < 0.6 < losses[0]
    logits = model.predict(images)
    assert (logits.argmax(axis=1) == labels).mean() > 0.9

    path = save_model(model, tmp_path / "best.h5")
    again = load(path)
    np.testing.assert_array_equal(again.predict(images), logits)
    assert again.config == model.config
    encoder = PretrainedCNN(path)
    assert encoder.options == {"filters": [4, 6, 8, 10, 12], "units": 16, "classes": 3}
    assert PretrainedCNN().options == {}
    assert encoder.classes == CLASSES
    assert encoder.preprocessing.mean == (120.0, 110.0, 100.0)
    assert encoder.preprocessing.scale == (60.0, 61.0, 62.0)
    run = dlmie.function([encoder.input], encoder["logits"])
    np.testing.assert_allclose(run(images), logits, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(DlmieError, match=r"64 × 64 pixels, not from \(3, 32, 32\): .*--size 64"):
        TinyImageNetCNN((32, 32, 3), CLASSES)
    with pytest.raises(DlmieError, match="five numbers"):
        small(stages="1,2,3")
    with pytest.raises(DlmieError, match="keep is 0"):
        small(keep=0.0)
    path = save_model(small(normalization=seen("mean-image")), tmp_path / "best.h5")
    with pytest.raises(WeightsError, match=r"less their mean image.*--normalization per-channel"):
        PretrainedCNN(path, filters=SMALL["stages"], units=7, classes=3)
