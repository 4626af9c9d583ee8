"""A tiny data set of labeled images and a step that trains on it: for tests of classification."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from dlmie import optim
from dlmie.classification.step import ClassificationStep
from dlmie.classification.step import compile as compile_step
from dlmie.data import LabelledImages, Normalization
from dlmie.data.labelled.dataset import prepare
from dlmie.models import ConvNet, LinearSVM, Softmax
from dlmie.models.classifiers.image_classifier import ImageClassifier

CLASSES = ("blue", "green", "red")

#: Models by the name that a test has for them; the network has running statistics and dropout.
KINDS: dict[str, Callable[..., ImageClassifier]] = {
    "softmax": Softmax,
    "linear-svm": LinearSVM,
    "convnet": partial(ConvNet, stages=(3, 4), keep=0.8),
}


def make_images(folder: Path, count: int = 30) -> Path:
    """Noisy images of 4 × 4 pixels, by their color; returns the folder."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        rng = np.random.default_rng(label)
        for number in range(count):
            pixels = rng.integers(60, 120, (4, 4, 3))
            pixels[..., 2 - label] += rng.integers(40, 90)
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def make_data(folder: Path) -> LabelledImages:
    """60 images to train on, 20 of dev and 10 of test."""
    counts = {"train": 60, "dev": 20, "test": 10}
    images = make_images(folder / "images")
    return prepare(images, to=folder / "colors.h5", splits=counts, progress=False)


def make_step(
    data: LabelledImages,
    *,
    kind: Callable[..., ImageClassifier] = Softmax,
    normalization: Normalization | None = None,
    regularization: float = 1e-3,
    seed: int = 0,
    **options: Any,
) -> ClassificationStep:
    """A step with everything that has a state: Adam, a schedule, averages."""
    model = kind(
        data.shape,
        data.classes,
        normalization=normalization or Normalization.of(data, "per-channel"),
        regularization=regularization,
        seed=seed,
    )
    optimizer = optim.chain(
        optim.clip_norm(5.0), optim.adam(optim.cosine(0.05, 40, warmup=3)), optim.ema(0.9)
    )
    step = compile_step(model, optimizer, seed=seed, **options)
    step.progress = False
    return step
