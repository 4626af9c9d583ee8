"""The options of generators, declared once: for Python, recipes, ``config.json`` and commands.

Nothing here needs PyTensor, so that ``dlmie train --help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlmie.training.config import OptionGroup, TaskOptions, TrainingOptions, option


@dataclass(frozen=True, kw_only=True)
class GenerationOptions(TrainingOptions):
    """How a generator is trained, and how its images are scored.

    Of the scores, ``monitor`` names one of ``pixel_frechet``, ``diversity`` and ``loss``, and with
    a ``classifier`` also of ``frechet``, ``confidence`` and ``classes``.
    """

    # What captioning has, too, has its help there.
    epochs: int = option(5, low=1)
    batch: int = option(128, low=1)
    monitor: str = option("pixel_frechet")
    classifier: str | None = option(
        None, "Of generators: a trained classifier of the same data, which scores images."
    )
    scored_images: int = option(
        1000, "Of generators: images that are scored after each epoch.", low=2
    )
    picture_every: int = option(
        250, "Of generators: steps between the pictures of a run's animation.", low=1
    )

    SCORES: ClassVar[frozenset[str]] = TrainingOptions.SCORES | {"classifier", "scored_images"}


@dataclass(frozen=True, kw_only=True)
class AdversarialOptions(OptionGroup):
    """A critic tells real images from generated ones; the generator learns to deceive it."""


@dataclass(frozen=True, kw_only=True)
class PenaltyOptions(AdversarialOptions):
    """The same, with a critic that is nowhere steep or flat."""

    penalty: float = option(10.0, "Of wgan-gp: weight of the gradient penalty.", low=0)


#: The objectives of generators by the name in a run's configuration.
OBJECTIVES: dict[str, type[OptionGroup]] = {
    "vanilla": AdversarialOptions,
    "least-squares": AdversarialOptions,
    "wasserstein": PenaltyOptions,
}

OPTIONS = TaskOptions(training=GenerationOptions, objectives=OBJECTIVES)
