"""From settings and data to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dlmie.data.labelled.dataset import LabelledImages
from dlmie.generation.step import GenerationStep
from dlmie.generation.task import TASK
from dlmie.training.planning import NewStep, new_step
from dlmie.training.settings import Settings


def plan(
    settings: Settings,
    data: LabelledImages,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> NewStep[GenerationStep]:
    """Build the step that settings describe: see :func:`~dlmie.training.planning.new_step`."""
    return new_step(TASK, settings, data, seed=seed, features=features)
