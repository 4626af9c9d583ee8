"""From settings and data to the training step of a new run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dlmie.data.labelled.dataset import LabelledImages
from dlmie.errors import DlmieError
from dlmie.generation.options import GenerationOptions
from dlmie.generation.step import GenerationStep
from dlmie.generation.task import TASK
from dlmie.models import registry
from dlmie.models.generators.gan import GAN
from dlmie.training.config import DataSource, RunConfig
from dlmie.training.settings import Settings


@dataclass(frozen=True)
class Plan:
    """The step of a new run."""

    step: GenerationStep
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
        Generators see images: anything else than None is an error.
    note : callable
        Told what the user should know.

    Raises
    ------
    DlmieError
        Settings that contradict each other or the data.
    """
    for name, given in (("features", features), ("from", settings.start)):
        if given is not None:
            raise DlmieError(f"--{name} is for captioners; {settings.model} is a generator")
    options = GenerationOptions.of({**settings.training, "seed": seed})
    TASK.check(options, data)
    made: type[GAN] = registry.model_class(settings.model, "generator")
    model = {"kind": settings.model, "config": {**settings.config, "seed": seed}}
    count = -(-min(len(data["train"]), options.limit or len(data["train"])) // options.batch)
    config = RunConfig(
        task=TASK.name,
        model=model,
        objective={"kind": made.loss, **settings.objective, "seed": seed},
        optimizer=TASK.chain(settings.optimizer, options, count),
        data=DataSource(str(data.path), data.hash),
        training=options,
        inputs={},
        meta={},
    )
    return Plan(TASK.build(config, data))
