"""From settings and data to the training step of a new run: what tasks have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol

from dlmie.errors import DlmieError
from dlmie.training.config import DataSource, RunConfig
from dlmie.training.settings import Settings
from dlmie.training.step import TrainingStep
from dlmie.training.task import Data, DataType, Step, Task
from dlmie.typing import JsonObject


class Plan(Protocol):
    """The step of a new run, and the features it is trained on, where they are there."""

    @property
    def step(self) -> TrainingStep: ...

    @property
    def features(self) -> object | None: ...


class Planner(Protocol):
    """Builds the step of a new run from settings and data: ``plan`` of a task.

    ``features`` names what an encoder made of the images; ``note`` is told what the user should
    know.
    """

    def __call__(
        self,
        settings: Settings,
        data: Data,
        *,
        seed: int = 0,
        features: str | Path | None = None,
        note: Callable[[str], None] = ...,
    ) -> Plan: ...


@dataclass(frozen=True)
class NewStep(Generic[Step]):
    """The step of a run that begins with new weights, without features."""

    step: Step
    features: None = None


def new_step(
    task: Task[DataType, Step],
    settings: Settings,
    data: DataType,
    *,
    seed: int,
    features: str | Path | None,
    inputs: JsonObject | None = None,
) -> NewStep[Step]:
    """Build the step that settings describe, with new weights.

    Parameters
    ----------
    task : Task
    settings : Settings
    data
        Of the task.
    seed : int
        Of the first weights and of everything that is random in the step.
    features
        Only captioners see features: anything else than None is an error.
    inputs : mapping, optional
        How the model sees the data, as the configuration has it.

    Raises
    ------
    DlmieError
        Settings that contradict each other or the data.
    """
    for name, given in (("features", features), ("from", settings.start)):
        if given is not None:
            raise DlmieError(f"--{name} is for captioners, not for {settings.model}")
    options = task.options.of({**settings.training, "seed": seed})
    task.check(options, data)
    config = RunConfig(
        task=task.name,
        model={"kind": settings.model, "config": {**settings.config, "seed": seed}},
        objective={**settings.objective, "seed": seed},
        optimizer=task.chain(settings.optimizer, options, data),
        data=DataSource(str(data.path), data.hash),
        training=options,
        inputs=inputs or {},
        meta={},
    )
    return NewStep(task.build(config, data))
