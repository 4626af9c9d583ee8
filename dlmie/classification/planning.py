"""From settings and data to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlmie.classification.step import ClassificationStep
from dlmie.classification.task import TASK
from dlmie.data.labelled.dataset import LabelledImages
from dlmie.training.planning import NewStep, new_step
from dlmie.training.settings import Settings

USUAL_NORMALIZATION = "mean-image"


def plan(
    settings: Settings,
    data: LabelledImages,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> NewStep[ClassificationStep]:
    """Build the step that settings describe: see :func:`~dlmie.training.planning.new_step`."""
    inputs = {"normalization": settings.normalization or USUAL_NORMALIZATION}
    return new_step(TASK, settings, data, seed=seed, features=features, inputs=inputs)
