"""From settings and data to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlmie.classification.options import ClassificationOptions
from dlmie.classification.step import ClassificationStep
from dlmie.classification.task import TASK, splits
from dlmie.data.labelled.batches import LabelledBatches
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError
from dlmie.models import registry
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.training.config import DataSource, RunConfig
from dlmie.training.settings import Settings
from dlmie.typing import JsonObject

USUAL_NORMALIZATION = "mean-image"


@dataclass(frozen=True)
class Plan:
    """The step of a new run."""

    step: ClassificationStep
    features: None = None


def plan(
    settings: Settings,
    data: LabelledImages,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Build the step that settings describe.

    Parameters
    ----------
    settings : Settings
    data : LabelledImages
    seed : int
        Of the first weights and of everything that is random in the step.
    features
        Classifiers see images: anything else than None is an error.
    note : callable
        Told what the user should know.

    Raises
    ------
    DlmieError
        Settings that contradict each other or the data.
    """
    for name, given in (("features", features), ("from", settings.start)):
        if given is not None:
            raise DlmieError(f"--{name} is for captioners; {settings.model} is a classifier")
    options = ClassificationOptions.of({**settings.training, "seed": seed})
    TASK.check(options, data)
    made: type[ImageClassifier] = registry.model_class(settings.model, "classifier")
    config = RunConfig(
        task=TASK.name,
        model={"kind": settings.model, "config": {**settings.config, "seed": seed}},
        objective={"kind": made.loss, **settings.objective, "seed": seed},
        optimizer=_chain(settings, options, data),
        data=DataSource(str(data.path), data.hash),
        training=options,
        inputs={"normalization": settings.normalization or USUAL_NORMALIZATION},
        meta={},
    )
    return Plan(TASK.build(config, data))


def _chain(
    settings: Settings, options: ClassificationOptions, data: LabelledImages
) -> list[JsonObject]:
    """The optimizer's chain, with lengths in steps."""
    split, _ = splits(data, options)
    plain = Normalization.of(data, "none")
    # Only to count them: schedules are as long as the run.
    batches = LabelledBatches(split, plain, batch=options.batch, limit=options.limit)
    return TASK.chain(settings.optimizer, options, len(batches))
