"""The overfit self-check: a captioner that works overfits a few captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.backends.choice import length_step
from dlmie.captioning.evaluation import loss_per_word
from dlmie.captioning.feature_caches import encoder_of, of_layer
from dlmie.captioning.features import Encoder, features_of
from dlmie.captioning.step import CaptioningStep
from dlmie.data.batches import Batches, FirstImages, image_reader
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.captions.feature_cache import FeatureSource
from dlmie.errors import DlmieError
from dlmie.progress import Bar
from dlmie.typing import JsonObject


@dataclass(frozen=True)
class OverfitReport:
    """What :func:`overfit` found.

    Attributes
    ----------
    passed : bool
        The loss fell below the target and every parameter moved.
    loss, first_loss, target : float
        Nats a word, without dropout: at the end, at the beginning, and what was to be reached.
    changes : dict
        By parameter, ``|θ - θ₀| / max(|θ|, |θ₀|)``: 0 never moved, about 1 is all new.
    images, epochs : int
        How many images were learned, and how often they were seen.
    """

    passed: bool
    loss: float
    first_loss: float
    target: float
    changes: dict[str, float]
    images: int
    epochs: int

    @property
    def stuck(self) -> list[str]:
        """Parameters that never moved: their gradient is zero."""
        return [name for name, change in self.changes.items() if change == 0]

    def to_json(self) -> JsonObject:
        """Plain values for ``--json``."""
        return {**self.__dict__, "stuck": self.stuck}

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        lines = [
            f"overfit {self.images} images: {verdict}: {self.first_loss:.3f} → {self.loss:.3f} "
            f"nats per word (target {self.target:g}) after {self.epochs} epochs"
        ]
        width = max(map(len, self.changes), default=0)
        for name, change in self.changes.items():
            note = "  never moved" if change == 0 else ""
            lines.append(f"  {name:<{width}}  changed by {change:.4f}{note}")
        return "\n".join(lines)


def overfit(
    step: CaptioningStep,
    data: Captions | str | Path,
    *,
    images: int = 200,
    features: Features | str | Path | None = None,
    epochs: int = 100,
    batch: int = 25,
    target: float = 0.5,
    progress: bool = True,
) -> OverfitReport:
    """Check that a model can overfit the first caption of each of a few images.

    A wrong gradient, a state that is not passed on or annotations that never reach the words show
    here within minutes: the loss stays where the language alone brings it.

    Parameters
    ----------
    step : CaptioningStep
        From :func:`dlmie.compile`; afterwards it is as it was.
    data : Captions or path
        The first images of its split "train" are used.
    images : int
    features : Features or path, optional
        Cached annotations; without, the images are encoded now.
    epochs, batch : int
        At most so many passes, with so many captions in a step.
    target : float
        Loss in nats per word, without dropout, at which the check has passed.
    progress : bool
        Show a bar.

    Raises
    ------
    DlmieError
        The step is not for teacher forcing, or the features do not fit.
    """
    if step.kind != "teacher-forcing":
        raise DlmieError("the overfit check needs a step that learns given captions")
    data = Captions(data) if isinstance(data, (str, Path)) else data
    step.model.vocabulary.check_matches(data.vocabulary, str(data.path))
    few = FirstImages(data["train"], images, one_caption=True)
    inputs = _Inputs(step, data, features, len(few))
    changed = {**step.state, **{str(p.name): p for p in step.model.measured}}
    start = {name: np.copy(v.get_value(borrow=True)) for name, v in changed.items()}
    trained = {str(p.name): p for p in step.parameters}

    def learned() -> float:
        return loss_per_word(
            step.model, Batches(few, inputs.annotations, batch=batch, length_step=length_step())
        )

    try:
        rows = np.arange(len(few))
        step.model.measure(lambda: inputs.annotations(rows, np.zeros_like(rows)))
        batches = Batches(few, inputs.read, batch=batch, length_step=length_step())
        first = loss = learned()
        seen = 0
        with Bar(total=epochs, unit="epoch", disable=not progress, leave=False) as bar:
            while seen < epochs and loss > target:
                for b in batches:
                    step(b)
                seen += 1
                loss = learned()
                bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
                bar.update()
        changes = {name: _change(start[name], p.get_value()) for name, p in trained.items()}
    finally:
        for name, variable in changed.items():
            variable.set_value(start[name])
    passed = bool(loss <= target) and all(changes.values())
    return OverfitReport(passed, loss, first, target, changes, len(few), seen)


class _Inputs:
    """What the step is fed, and what its model sees of it."""

    def __init__(
        self, step: CaptioningStep, data: Captions, features: FeatureSource | None, images: int
    ) -> None:
        self.step = step
        split = data["train"]
        if step.annotations.takes_images:
            self.read = image_reader(split, step.annotations.encoder.preprocessing)
            return
        header = of_layer(encoder_of(step, features), step.annotations.from_layer)
        if features is not None:
            cache = features if isinstance(features, Features) else Features(features)
            cache.check_matches(features_of(header, data.hash, data.size))
            rows = cache.read("train", np.arange(images))
        else:
            encoder = Encoder(step.annotations.encoder, header["layer"])
            parts = [np.arange(i, min(i + 32, images)) for i in range(0, images, 32)]
            rows = np.concatenate([encoder.pixels(split.load_images(part)) for part in parts])
        self.read = lambda indices, views: rows[indices]

    def annotations(self, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        """What the model sees of images, through the encoder as it is now."""
        return self.step.annotations.annotate(self.read(indices, views))


def _change(before: np.ndarray, after: np.ndarray) -> float:
    size = max(np.linalg.norm(before), np.linalg.norm(after))
    return float(np.linalg.norm(after - before) / size) if size > 0 else 0.0
