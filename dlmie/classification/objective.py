"""What a classifier is trained for: a loss of its scores, and the penalty on its weights."""

from __future__ import annotations

from collections.abc import Mapping

import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.layers.noise import Noise
from dlmie.losses import CLASSIFICATION
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.training.config import OptionGroup
from dlmie.training.objective import Loss, Objective


class Classify(Objective):
    """Cross-entropy or hinge loss, with the model's L2 penalty once per batch.

    Minimized is ``mean loss + penalty``; "loss" is reported without the penalty, and
    "train_accuracy" is the share of the batches' images that were right when they were seen.

    Parameters
    ----------
    model : ImageClassifier
    kind : str
        "cross-entropy" or "hinge".
    options : CrossEntropyOptions or HingeOptions
        Of that loss.
    """

    def __init__(self, model: ImageClassifier, kind: str, options: OptionGroup) -> None:
        self.model, self.kind, self.options = model, kind, options
        self.name = model.kind

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``images`` (batch, channels, rows, columns), ``labels`` (batch,)."""
        return {"images": self.model.images, "labels": self.model.labels}

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        labels = batch["labels"]
        logits, updates = self.model.train(batch["images"], noise)
        loss = CLASSIFICATION[self.kind]
        summed = loss(logits, labels, reduction="sum", **self.options.to_json())
        count = pt.cast(labels.shape[0], self.model.dtype)
        right = pt.eq(logits.argmax(axis=1), labels)
        total = summed + count * self.model.penalty() if self.model.regularization else summed
        return Loss(
            total=total,
            weight=count,
            metrics={"loss": summed, "train_accuracy": pt.cast(right, self.model.dtype).sum()},
            updates=updates,
        )
