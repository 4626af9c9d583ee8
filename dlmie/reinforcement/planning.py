"""From settings and an environment to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlmie.errors import DlmieError
from dlmie.models import registry
from dlmie.reinforcement.environments.environment import Environment
from dlmie.reinforcement.options import ReinforcementOptions
from dlmie.reinforcement.step import AgentStep
from dlmie.reinforcement.task import TASK
from dlmie.training.config import DataSource, RunConfig
from dlmie.training.settings import Settings


@dataclass(frozen=True)
class Plan:
    """The step of a new run."""

    step: AgentStep
    features: None = None


def plan(
    settings: Settings,
    data: Environment,
    *,
    seed: int = 0,
    features: str | Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Build the step that settings describe.

    Parameters
    ----------
    settings : Settings
    data : Environment
    seed : int
        Of the first weights and of all that is random in the run.
    features
        Agents see what the environment shows: anything else than None is an error.
    note : callable
        Told what the user should know.

    Raises
    ------
    DlmieError
        Settings that contradict each other or the environment.
    """
    for name, given in (("features", features), ("from", settings.start)):
        if given is not None:
            raise DlmieError(f"--{name} is for captioners; {settings.model} is an agent")
    options = ReinforcementOptions.of({**settings.training, "seed": seed})
    TASK.check(options, data)
    kind = registry.entry(settings.model, "agent").objective
    config = RunConfig(
        task=TASK.name,
        model={"kind": settings.model, "config": {**settings.config, "seed": seed}},
        objective={"kind": kind, **settings.objective, "seed": seed},
        # How many updates an episode has is not known before: lengths in epochs count rollouts.
        optimizer=TASK.chain(settings.optimizer, options, -(-options.episodes // options.batch)),
        data=DataSource(str(data.path), data.hash),
        training=options,
        inputs={},
        meta={},
    )
    return Plan(TASK.build(config, data))
