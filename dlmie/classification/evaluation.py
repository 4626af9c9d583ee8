"""How good a classifier is on a split: accuracy, in all and by class, and what it confuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dlmie.classification.model_files import load
from dlmie.data.labelled.batches import batches_in_order
from dlmie.data.labelled.dataset import LabelledSplit
from dlmie.errors import DataError
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.parallel import in_turns, world
from dlmie.text import format_table


@dataclass(frozen=True, eq=False)
class ClassScores:
    """What a classifier got right.

    Attributes
    ----------
    classes : list of str
    confusion : (classes, classes) int64
        ``confusion[i, j]``: images of class i that were taken for class j.
    loss : float
        Mean of the loss that the model is named for, without the penalty.
    predicted : (images,) int64
        What each image was taken for.
    protocol : dict
        What makes the numbers comparable: split, number of images, hash of the data.
    """

    classes: list[str]
    confusion: np.ndarray
    loss: float
    predicted: np.ndarray
    protocol: dict[str, object]

    @property
    def accuracy(self) -> float:
        """The share of all images that were right."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @cached_property
    def per_class(self) -> dict[str, float | None]:
        """The share of each class's images that were right; None where it has none."""
        counts, right = self.confusion.sum(axis=1), np.diagonal(self.confusion)
        return {
            name: float(r / n) if n else None
            for name, r, n in zip(self.classes, right, counts, strict=True)
        }

    def to_json(self) -> dict[str, object]:
        """The scores as a document."""
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "protocol": self.protocol,
        }

    def __str__(self) -> str:
        images = self.protocol["images"]
        head = f"accuracy {self.accuracy:.4f}, loss {self.loss:.4f} ({images:,} images of "
        rows = []
        for label, (name, share) in enumerate(self.per_class.items()):
            others = self.confusion[label].copy()
            others[label] = 0
            wrong = f"{self.classes[others.argmax()]} {others.max():,}" if others.any() else ""
            shown = "none there" if share is None else f"{share:.3f}"
            rows.append((name, f"{self.confusion[label].sum():,}", shown, wrong))
        table = format_table(("class", "images", "right", "most taken for"), rows)
        return f"{head}{self.protocol['split']})\n\n{table}"


def evaluate(
    classifier: ImageClassifier | str | Path, split: LabelledSplit, *, batch: int = 500
) -> ClassScores:
    """Score a classifier on a split; several ranks work on a batch each.

    Parameters
    ----------
    classifier
        A model, or what :func:`~dlmie.classification.model_files.load` takes.
    split
        ``LabelledImages("cifar10.h5")["dev"]``.
    batch : int
        Images at a time.

    Raises
    ------
    DataError
        The split has no images, or other classes than the model.
    """
    model = load(classifier) if isinstance(classifier, (str, Path)) else classifier
    if model.classes != split.classes:
        raise DataError(
            f"the split {split.name} has the classes {', '.join(split.classes)}; the model knows "
            f"{', '.join(model.classes)}"
        )
    if not len(split):
        raise DataError(f"the split {split.name} has no images")
    size = len(model.classes)
    predicted = np.empty(len(split), np.int64)
    loss = 0.0

    def work(starts: Iterator[int]) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        seen = model.normalization
        for part in batches_in_order(split, seen, batch=batch, dtype=model.dtype, starts=starts):
            logits, summed = model.score(part.images, part.labels)
            yield part.index, logits.argmax(axis=1), float(summed)

    parts = in_turns(range(0, len(split), batch), work, world())
    for _, (index, found, summed) in parts:
        predicted[index] = found
        loss += summed
    pairs = split.labels * size + predicted
    return ClassScores(
        classes=model.classes,
        confusion=np.bincount(pairs, minlength=size * size).reshape(size, size),
        loss=loss / len(split),
        predicted=predicted,
        protocol={
            "split": split.name,
            "images": len(split),
            "data_hash": split.hash,
            "normalization": model.normalization.kind,
            "loss": model.loss,
        },
    )
