"""The tasks that dlmie trains, by the name in ``config.json``; imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dlmie.errors import DlmieError
from dlmie.text import suggest
from dlmie.training.config import TaskOptions

if TYPE_CHECKING:
    from dlmie.training.task import Task

# A package for each, with modules `task` and `options`.  Nothing is imported by a string that a
# file holds: only by these.
TASKS = {
    "captioning": "dlmie.captioning",
}


def task(name: str) -> Task[Any]:
    """The task of a name.

    Raises
    ------
    DlmieError
        There is none.
    """
    found: Task[Any] = importlib.import_module(f"{_package(name)}.task").TASK
    return found


def task_options(name: str) -> TaskOptions:
    """The options of a task, without importing what it computes with; raises as `task` does."""
    found: TaskOptions = importlib.import_module(f"{_package(name)}.options").OPTIONS
    return found


def _package(name: str) -> str:
    if name not in TASKS:
        raise DlmieError(f"unknown task {name!r}{suggest(name, TASKS)}")
    return TASKS[name]
