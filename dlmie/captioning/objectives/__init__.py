"""Training steps: a model, an objective and an optimiser as one compiled function.

:class:`TrainingStep` is teacher forcing; :class:`DistillationStep` learns from trained models as
well, :class:`SelfCriticalStep` from the scores of captions that the model draws itself.
"""

from __future__ import annotations

from typing import Any

from dlmie.captioning.objectives.distillation import DistillationStep
from dlmie.captioning.objectives.self_critical import SelfCriticalStep
from dlmie.captioning.objectives.teacher_forcing import TrainingStep

__all__ = ["DistillationStep", "SelfCriticalStep", "TrainingStep", "compile"]


def compile(model: Any, optimiser: Any = None, **options: Any) -> TrainingStep:
    """Make a training step: see :class:`TrainingStep` for the options."""
    return TrainingStep(model, optimiser, **options)
