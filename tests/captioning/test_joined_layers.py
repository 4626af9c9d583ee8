"""A captioner of joined layers, standardized channels, positions and the current query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captioning_cases import make_data

from dlmie import captioning
from dlmie.captioning.evaluation import loss_per_word
from dlmie.captioning.features import Encoder
from dlmie.captioning.overfitting import overfit
from dlmie.captioning.planning import plan
from dlmie.data.batches import Batches, FirstImages
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import Features
from dlmie.training.runs import resume, train
from dlmie.training.settings import Settings

LAYER = "block0+block2"
CONFIG = {
    "embedding": 8, "hidden": 12, "attention": 6,
    "query": "current", "standardize": True, "position": 2,
}  # fmt: skip
OPTIONS: dict[str, Any] = {"batch": 16, "decoding": {"beam": 2}, "progress": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Captions:
    return make_data(tmp_path_factory.mktemp("joined"))


def values(run: Path) -> dict[str, np.ndarray]:
    model = captioning.load(run).model
    return {str(p.name): p.get_value() for p in model.parameters}


def make_settings() -> Settings:
    return Settings(
        model="show-attend-tell",
        config=CONFIG,
        encoder={"name": "efficientnet-lite0", "layer": LAYER, "size": 32},
    )


@pytest.mark.slow
def test_they_train_resume_and_caption(data: Captions, tmp_path: Path) -> None:
    step = plan(make_settings(), data).step
    step.progress = False
    run = train(step, data, to=tmp_path / "run", epochs=1, **OPTIONS)
    first = values(run.folder)
    resumed = resume(run.folder, epochs=2, progress=False)

    # The features hold the channels of both layers, on the coarser grid.
    (path,) = data.path.parent.glob(f"*{LAYER}*.features.h5")
    features = Features(path)
    assert features.header["encoder"]["layer"] == LAYER
    assert features.shape == (16 + 24, 8, 8)
    grids = features.read("train", np.arange(features.splits["train"]))
    mean = grids.mean(axis=(0, 2, 3), dtype=np.float64)
    deviation = grids.std(axis=(0, 2, 3), dtype=np.float64)

    last = values(resumed.folder)
    for found in (first, last):
        np.testing.assert_allclose(found["/annotations/mean"], mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found["/annotations/deviation"], deviation, rtol=1e-5)

    # From the pixels it says what it says of the features it learned from.
    captioner = captioning.load(resumed.folder)
    images = data["dev"].load_images([0, 1])
    (seen,) = captioner.features(list(images))
    np.testing.assert_allclose(seen, features.read("dev", [0, 1]), rtol=0.01, atol=0.02)
    best = captioner(images[0], beam=2)[0]
    assert best.alphas is not None
    assert best.alphas.shape[1:] == (8, 8)
    # Trained further, it keeps what was measured.
    further = plan(Settings(model="show-attend-tell", start=str(resumed.folder)), data).step
    names = {str(p.name): p.get_value() for p in further.model.parameters}
    assert np.array_equal(names["/annotations/mean"], last["/annotations/mean"])


def test_the_overfit_check_standardizes_and_leaves_the_step_as_it_was(data: Captions) -> None:
    step = plan(make_settings(), data).step
    step.progress = False
    report = overfit(step, data, images=4, epochs=1, progress=False)
    assert not step.model.mean.get_value().any()

    encoder = Encoder(step.annotations.encoder, LAYER)
    seen = encoder.pixels(data["train"].load_images(np.arange(4)))
    step.model.measure(lambda: seen)
    assert step.model.mean.get_value().any()
    few = FirstImages(data["train"], 4, one_caption=True)
    loss = loss_per_word(step.model, Batches(few, lambda rows, views: seen[rows], batch=4))
    assert report.first_loss == pytest.approx(loss, rel=1e-6)
