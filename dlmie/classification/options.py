"""The options of classification, declared once: for Python, recipes, ``config.json`` and commands.

Nothing here needs PyTensor, so that ``dlmie train --help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypedDict

from dlmie.training.config import OptionGroup, TaskOptions, TrainingOptions, option


class BatchOptions(TypedDict):
    """The arguments of batches of labeled images that options decide."""

    batch: int
    seed: int
    limit: int | None
    flip: bool
    shift: int


@dataclass(frozen=True, kw_only=True)
class ClassificationOptions(TrainingOptions):
    """How a classifier is trained.

    ``flip`` mirrors a random half of the images; of the scores, ``monitor`` names one of
    ``accuracy``, ``dev_loss`` and ``loss``. With ``folds`` a part of the training images is dev
    instead of the data's own; normalizations are still made of all training images.
    """

    # What captioning has, too, has its help there.
    batch: int = option(128, low=1)
    monitor: str = option("accuracy")
    flip: bool = option(False)
    shift: int = option(0, "Of classifiers: move images by up to so many pixels.", low=0)
    folds: int | None = option(
        None, "Cross-validation: train on all but one of so many parts of train.", low=2
    )
    fold: int = option(0, "Which part is left out, from 0 on: it is dev.", low=0)

    ORDER: ClassVar[frozenset[str]] = TrainingOptions.ORDER | {"flip", "shift", "folds", "fold"}
    SCORES: ClassVar[frozenset[str]] = TrainingOptions.SCORES | {"folds", "fold"}

    def of_batches(self) -> BatchOptions:
        """What the batches of training images are made with."""
        return BatchOptions(
            batch=self.batch, seed=self.seed, limit=self.limit, flip=self.flip, shift=self.shift
        )


@dataclass(frozen=True, kw_only=True)
class CrossEntropyOptions(OptionGroup):
    """The negative log-likelihood of the true class."""

    label_smoothing: float = option(0.0, low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class HingeOptions(OptionGroup):
    """The support vector machine's: wrong classes within a margin of the true one's score."""

    margin: float = option(1.0, "Of linear-svm: how far the true class must lead.", low=0)


#: The objectives of classification by the name in a run's configuration.
OBJECTIVES: dict[str, type[OptionGroup]] = {
    "cross-entropy": CrossEntropyOptions,
    "hinge": HingeOptions,
}

OPTIONS = TaskOptions(training=ClassificationOptions, objectives=OBJECTIVES)
