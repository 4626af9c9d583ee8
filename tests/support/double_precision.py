"""Train in double precision and without dropout, as one of several ranks or alone.

    mpiexec -n 2 python double_precision.py WAY TO

Sums in another order then differ by 1e-16, and so does all that follows at any learning rate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from captioning_cases import make_cache, make_step
from classification_cases import make_step as make_classifier

import dlmie
from dlmie import optim
from dlmie.captioning.evaluation import reference_words
from dlmie.captioning.step import CaptioningStep, distill, reinforce
from dlmie.data import LabelledImages
from dlmie.data.batches import Batches
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.models import Softmax, encoder
from dlmie.models.captioners.show_tell import ShowTell
from dlmie.parallel import together

MODEL: dict[str, Any] = {"dropout": 0.0, "dtype": "float64"}


def teacher_forcing(data: Captions, seen: Features) -> CaptioningStep:
    return make_step(data, seen.shape, model_options=MODEL)


def attention(data: Captions, seen: Features) -> CaptioningStep:
    return make_step(data, seen.shape, attend=True, model_options=MODEL, alpha_penalty=1.0)


def fine_tuning(data: Captions, seen: Features) -> CaptioningStep:
    network = encoder("squeezenet", size=32, weights=None, dtype="float64")
    return make_step(data, network["fire2"], model_options=MODEL, finetune="fire2")


def distillation(data: Captions, seen: Features) -> CaptioningStep:
    teacher = ShowTell(seen.shape, data.vocabulary, embedding=8, hidden=12, seed=7, **MODEL)
    step = teacher_forcing(data, seen)
    return distill(step.model, step.optimizer, teachers=[teacher])


def self_critical(data: Captions, seen: Features) -> CaptioningStep:
    """After some epochs of teacher forcing: a model that knows nothing gets no rewards."""
    step = teacher_forcing(data, seen)
    split = data["train"]
    batches = Batches(split, lambda images, views: seen.read("train", images, views), batch=16)
    for _ in range(8):
        for batch in batches:
            step(batch)
    references = reference_words(split, data.vocabulary)
    return reinforce(step.model, optim.adam(1e-2), references=references, samples=3, max_length=9)


WAYS: dict[str, Callable[[Captions, Features], CaptioningStep]] = {
    "attention": attention,
    "fine-tuning": fine_tuning,
    "distillation": distillation,
    "self-critical": self_critical,
}


def train(way: str, to: str) -> None:
    """Train for two epochs on what lies in this folder."""
    if way == "classifier":
        images = LabelledImages("colors.h5")
        step = make_classifier(images, kind=partial(Softmax, dtype="float64"))
        dlmie.train(step, images, to=to, epochs=2, batch=13, progress=False)
        return
    data = Captions("scenes.h5")
    features = make_cache(data, Path(f"{to}.features.h5"))
    step = WAYS[way](data, features)
    step.progress = False
    more = {"captions_per_image": 1} if way == "self-critical" else {}
    dlmie.train(
        step,
        data,
        to=to,
        features=None if way == "fine-tuning" else features,
        epochs=2,
        batch=16,
        monitor="dev_loss",
        decoding={"beam": 2},
        progress=False,
        **more,
    )


if __name__ == "__main__":
    with together():
        train(*sys.argv[1:])
