"""What a task (captioning, classification, …) tells training: its data, its steps, its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dlmie import optim
from dlmie.errors import DataError, DlmieError, MisuseError
from dlmie.parallel import Shards, world
from dlmie.text import suggest
from dlmie.training.checkpoint import Stateful
from dlmie.training.config import RunConfig, TrainingOptions
from dlmie.training.loop import EpochBatches, Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.optimizer_options import OptimizerOptions
from dlmie.training.step import TrainingStep
from dlmie.training.versions import versions
from dlmie.typing import JsonObject


class Data(Protocol):
    """A prepared file."""

    @property
    def path(self) -> Path: ...

    @property
    def hash(self) -> str: ...

    def __contains__(self, split: object, /) -> bool: ...


class Trainable(Protocol):
    """A model that knows by which task it is trained."""

    task: ClassVar[str]


DataType = TypeVar("DataType", bound=Data)
Step = TypeVar("Step", bound=TrainingStep)


@dataclass(frozen=True)
class Session:
    """What the loop runs for one run.

    Attributes
    ----------
    batches : callable
        ``batches(epoch, start)``: the batches of an epoch from a number on.
    measure : callable
        Scores of the dev split by name; an empty mapping where there is none.
    save_best : callable
        Write the model file; handed the path and the record of the epoch.
    state : mapping of Stateful
        What a checkpoint holds beside the state of the step.
    """

    batches: Callable[[int, int], EpochBatches]
    measure: Callable[[], Mapping[str, float]]
    save_best: Callable[[Path, Record], None]
    state: Mapping[str, Stateful] = field(default_factory=dict)


class Task(Generic[DataType, Step]):
    """Base of the tasks: from a configuration to a step, and from a step to a configuration."""

    #: In ``config.json`` and in the registry.
    name: ClassVar[str]
    #: The options of ``dlmie.train`` for this task.
    options: ClassVar[type[TrainingOptions]]
    #: What is measured, and which way it improves.
    metrics: ClassVar[Sequence[Metric]] = (LOSS,)
    #: Whether its batches can be shared out (:mod:`dlmie.training.parallel`).
    parallel: ClassVar[bool] = False
    #: What decides between epochs whose monitored scores are equal.
    tie_breaker: ClassVar[Metric | None] = None

    def compile(
        self, model: Any, optimizer: optim.Chain | optim.Transform | None = None, **options: Any
    ) -> Step:
        """A step by the usual objective of the task: see :func:`dlmie.compile`."""
        raise NotImplementedError

    def open(self, path: str | Path) -> DataType:
        """Open a prepared file of the task's kind."""
        raise NotImplementedError

    def configure(
        self, step: Step, data: DataType, meta: JsonObject, *, progress: bool, **options: Any
    ) -> tuple[RunConfig, Session]:
        """The configuration and the session of a run with a step that was made by hand."""
        raise NotImplementedError

    def build(self, config: RunConfig, data: DataType) -> Step:
        """The step that a configuration describes, of a fresh run and of a resumed one."""
        raise NotImplementedError

    def session(self, config: RunConfig, step: Step, data: DataType, *, progress: bool) -> Session:
        """The session of a run whose configuration is complete."""
        raise NotImplementedError

    def check(self, options: TrainingOptions, data: DataType) -> None:
        """Refuse options that would fail after an epoch; tasks add what they know."""
        names = [metric.name for metric in self.metrics]
        if options.monitor not in names:
            raise DlmieError(f"cannot monitor {options.monitor!r}{suggest(options.monitor, names)}")
        if not self.has_dev(options, data) and options.monitor != LOSS.name:
            raise DataError(
                f"{data.path} has no split dev to measure {options.monitor}: monitor loss instead"
            )
        self._check_shards(options)

    def _check_shards(self, options: TrainingOptions) -> None:
        """Refuse to share out what cannot be."""
        ranks = world()
        if not self.parallel:
            if ranks.size > 1:
                raise MisuseError(f"{self.name} trains in one process: start it without mpiexec")
            if options.shards is not None:
                raise MisuseError(f"batches of {self.name} are computed whole: leave out shards")
        shards = Shards.of_rank(ranks, options.shards)
        if shards.of > options.batch:
            what = "shards" if shards.fixed else "ranks"
            raise MisuseError(
                f"a batch of {options.batch} is too small for {shards.of} {what}: raise --batch"
            )

    def has_dev(self, options: TrainingOptions, data: DataType) -> bool:
        """Whether there is something to measure on after each epoch."""
        return "dev" in data

    def steps_per_epoch(self, options: TrainingOptions, data: DataType) -> int:
        """How many steps an epoch has: what lengths in epochs become."""
        raise NotImplementedError

    def chain(
        self, optimizer: JsonObject, options: TrainingOptions, data: DataType
    ) -> list[JsonObject]:
        """The optimizer of a new run, complete.

        Parameters
        ----------
        optimizer : mapping
            Fields of :class:`~dlmie.training.optimizer_options.OptimizerOptions`.
        options : TrainingOptions
        data
            Of the task.

        Raises
        ------
        MisuseError
            An option that its rule or schedule does not know.
        """
        links = OptimizerOptions.of(optimizer).chain(
            steps_per_epoch=self.steps_per_epoch(options, data),
            epochs=options.epochs,
            higher_is_better=self.metric(options.monitor).higher_is_better,
        )
        try:
            return optim.from_json(links).to_json()
        except optim.OptimizerError as error:
            raise MisuseError(str(error)) from None

    def upgraded(self, document: JsonObject) -> JsonObject:
        """A configuration of an older version in today's form."""
        return document

    def metric(self, name: str) -> Metric:
        """The metric of a name."""
        return next(metric for metric in self.metrics if metric.name == name)


AnyTask = Task[Any, Any]
"""A task whose data and steps are only known to itself."""


def model_meta(config: RunConfig, record: Record) -> JsonObject:
    """What the file of a kept model says of the run that it comes from."""
    return {
        "data": config.data.hash,
        "recipe": config.meta.get("recipe"),
        "scores": {k: v for k, v in record.items() if isinstance(v, (int, float))},
        "versions": versions(),
    }
