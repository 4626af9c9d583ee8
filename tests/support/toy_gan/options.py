"""The options of the toy task: those that all tasks have."""

from __future__ import annotations

from dlmie.training.config import OptionGroup, TaskOptions, TrainingOptions

OPTIONS = TaskOptions(training=TrainingOptions, objectives={"gan": OptionGroup})
