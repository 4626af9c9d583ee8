"""The tasks that dlmie trains, by the name in ``config.json``; imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.training.config import TaskOptions

if TYPE_CHECKING:
    from dlmie.training.planning import Planner
    from dlmie.training.task import AnyTask

# A package for each, with modules `task`, `options` and `planning`.  Nothing is imported by a name
# that a file holds: only by these.
TASKS = {
    "captioning": "dlmie.captioning",
    "classification": "dlmie.classification",
    "generation": "dlmie.generation",
    "reinforcement": "dlmie.reinforcement",
}


def task(name: str) -> AnyTask:
    """The task of a name.

    Raises
    ------
    DlmieError
        There is none.
    """
    found: AnyTask = importlib.import_module(f"{_package(name)}.task").TASK
    return found


def task_options(name: str) -> TaskOptions:
    """The options of a task, without importing what it computes with; raises as `task` does."""
    found: TaskOptions = importlib.import_module(f"{_package(name)}.options").OPTIONS
    return found


def planner(name: str) -> Planner:
    """What builds the step of a new run of a task from settings and data; raises as `task` does."""
    found: Planner = importlib.import_module(f"{_package(name)}.planning").plan
    return found


def _package(name: str) -> str:
    if name not in TASKS:
        raise DlmieError(f"unknown task {name!r}{suggest(name, TASKS)}")
    return TASKS[name]
