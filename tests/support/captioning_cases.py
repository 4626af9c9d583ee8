"""A tiny data set, its features, and steps that train on them: for the tests of captioning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dlmie import optim
from dlmie.captioning.step import CaptioningStep
from dlmie.captioning.step import compile as compile_step
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features, extract_features
from dlmie.data.images import Preprocessing
from dlmie.data.scenes import prepare_scenes
from dlmie.models import encoder
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.models.captioners.show_tell import ShowTell

LAYER = "pool1"  # of SqueezeNet with random weights at 32 pixels: (64, 7, 7)
PREPROCESSING = Preprocessing(8, (127.0,) * 3, (64.0,) * 3)


def make_data(folder: Path) -> Captions:
    """Scenes of 32 pixels: 24 train, 6 dev, 4 test."""
    return prepare_scenes(folder / "scenes.h5", train=24, dev=6, test=4, size=32, progress=False)


def encode(x: np.ndarray) -> np.ndarray:
    """Fixed random combinations of 4 × 4 blocks of pixels: (n, 5, 2, 2)."""
    blocks = x.reshape(len(x), 3, 2, 4, 2, 4).transpose(0, 1, 3, 5, 2, 4).reshape(len(x), 48, 2, 2)
    weights = np.random.default_rng(0).standard_normal((5, 48)).astype(np.float32)
    return np.einsum("dk,nkrc->ndrc", weights, blocks) / 7


def make_cache(data: Captions, path: Path, flip: bool = False) -> Features:
    """Features of an encoder that nobody can rebuild."""
    header = {
        "name": "nobody",
        "layer": "blocks",
        "size": 8,
        "weights": {"path": "/nowhere/weights.h5", "sha256": "0" * 64},
        "preprocessing": PREPROCESSING.to_json(),
    }
    return extract_features(
        data, encode, PREPROCESSING, to=path, header={"encoder": header}, flip=flip, progress=False
    )


def make_step(
    data: Captions,
    annotations: Any,
    *,
    attend: bool = False,
    seed: int = 0,
    model_options: dict[str, Any] | None = None,
    **options: Any,
) -> CaptioningStep:
    """A small step with everything that has a state: dropout, Adam, a schedule, averages."""
    sizes: dict[str, Any] = {"embedding": 8, "hidden": 12, "dropout": 0.2, "seed": seed}
    sizes |= model_options or {}
    if attend:
        sizes["attention"] = 6
    model = (ShowAttendTell if attend else ShowTell)(annotations, data.vocabulary, **sizes)
    chain = optim.chain(
        optim.clip_norm(5.0), optim.adam(optim.cosine(1e-2, 200, warmup=5)), optim.ema(0.9)
    )
    step = compile_step(model, chain, seed=seed, **options)
    step.progress = False
    return step


def make_network_step(data: Captions, **options: Any) -> CaptioningStep:
    """A step that trains the encoder, too: a SqueezeNet with random weights, from fire2 on."""
    network = encoder("squeezenet", size=32, weights=None)
    return make_step(data, network["fire2"], finetune="fire2", **options)
