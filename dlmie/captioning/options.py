"""The options of captioning, declared once: for Python, recipes, ``config.json`` and commands.

Nothing here needs PyTensor, so that ``dlmie train --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlmie.training.config import OptionGroup, TaskOptions, TrainingOptions, option
from dlmie.typing import JsonObject


@dataclass(frozen=True, kw_only=True)
class CaptioningOptions(TrainingOptions):
    """How a captioner is trained.

    ``decoding`` holds fields of :class:`~dlmie.captioning.decoding.Decoding` for validation;
    ``embed_encoder`` stores the encoder's weights in the model file; ``block`` is set where
    features are larger than memory: see :class:`~dlmie.data.batches.Batches`.
    """

    batch: int = option(64, "Captions in a step.", low=1)
    epochs: int = option(20, "Passes over the training captions.", low=1)
    monitor: str = option(
        "bleu_4",
        "Score of dev that chooses the best epoch: bleu_4, cider_d, …, dev_loss; the default is "
        "accuracy for classifiers, pixel_frechet for generators, reward for agents.",
    )
    captions_per_image: int | None = option(
        None, "Use so many captions of an image in an epoch.", low=1
    )
    flip: bool = option(False, "Mirror half of the images; not where captions say left and right.")
    crops: int = option(0, "See half of the images as one of so many random crops.", low=0)
    decoding: JsonObject = option({"beam": 3})
    embed_encoder: bool = option(False)
    block: int | None = option(None)

    ORDER: ClassVar[frozenset[str]] = TrainingOptions.ORDER | {
        *("captions_per_image", "flip", "crops")
    }
    SCORES: ClassVar[frozenset[str]] = TrainingOptions.SCORES | {"decoding"}


@dataclass(frozen=True, kw_only=True)
class FineTuning(OptionGroup):
    """Which part of the encoder learns together with the captioner.

    With ``finetune`` batches hold images, or with ``from_layer`` the values of a layer of the
    encoder that lies before that one: what does not learn need not be computed again in every
    epoch.
    """

    finetune: str | None = option(None, "Train the encoder, too, from the layer of this name on.")
    from_layer: str | None = option(
        None, "With --finetune: what FEATURES hold, a layer before that one."
    )
    encoder_lr: float = option(
        0.1, "With --finetune: factor on the encoder's learning rate.", low=0
    )


@dataclass(frozen=True, kw_only=True)
class LikelihoodOptions(FineTuning):
    """What objectives over the true captions share: how targets are softened, where to look."""

    alpha_penalty: float = option(
        0.0, "Weight of the penalty on attention that does not cover the image.", low=0
    )
    label_smoothing: float = option(
        0.0, "Share of a word's probability given to all words.", low=0, high=1
    )
    attention_supervision: float = option(
        0.0, "Weight of attention's share outside the boxes of what is named.", low=0
    )
    attention_each: bool = option(
        False, "With --attention-supervision: on each of the things that a word names, alike."
    )
    attention_entropy: float = option(
        0.0, "Weight of the entropy of attention: it looks at fewer cells.", low=0
    )


@dataclass(frozen=True, kw_only=True)
class TeacherForcingOptions(LikelihoodOptions):
    """Each word is learned from the true words before it."""

    scheduled_sampling: float = option(
        0.0, "Share of words replaced by the model's own.", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class DistillationOptions(LikelihoodOptions):
    """Each word is also the one that trained captioners expect."""

    teachers: Sequence[str | JsonObject] = option([])
    teacher_share: float = option(
        0.7, "With --teacher: how much the teachers count in each word.", low=0, high=1
    )


@dataclass(frozen=True, kw_only=True)
class SelfCriticalOptions(OptionGroup):
    """The score of drawn captions is the objective."""

    samples: int = option(5, low=2)
    temperature: float = option(1.0, low=0)
    max_length: int = option(20, low=1)


#: The objectives of captioning by the name in a run's configuration.
OBJECTIVES: dict[str, type[OptionGroup]] = {
    "teacher-forcing": TeacherForcingOptions,
    "distillation": DistillationOptions,
    "self-critical": SelfCriticalOptions,
}

OPTIONS = TaskOptions(training=CaptioningOptions, objectives=OBJECTIVES)
