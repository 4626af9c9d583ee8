"""Runs: folders in which training can be stopped at any time and continued bit for bit.

runs/NAME/config.json   everything that decides the run's course
runs/NAME/log.jsonl     what was measured, one JSON object per line
runs/NAME/state.h5      the last checkpoint: resuming continues bit for bit
runs/NAME/best.h5       the best model so far; all that using it needs
runs/NAME/epochs/       the model of each epoch, where that is asked for
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dlmie import optim
from dlmie.errors import DataError, DlmieError, MisuseError, OutputError
from dlmie.files import atomic
from dlmie.files.documents import parse_json, read_json, read_text
from dlmie.files.locks import locked
from dlmie.files.schema import Key, check_document
from dlmie.parallel import Shards, world
from dlmie.text import suggest
from dlmie.training import registry
from dlmie.training.callbacks import JsonLog, KeptEpochs, ProgressBar, Validation
from dlmie.training.checkpoint import Checkpoint
from dlmie.training.config import RunConfig
from dlmie.training.folders import BEST, CONFIG, EPOCHS, LOG, STATE
from dlmie.training.loop import MainLoop, Position
from dlmie.training.parallel import share_out
from dlmie.training.step import TrainingStep
from dlmie.training.task import AnyTask, Data, Session, Trainable
from dlmie.typing import JsonObject


@dataclass
class Run:
    """A finished or interrupted training run."""

    folder: Path
    position: Position
    stop_reason: str | None

    @property
    def log(self) -> list[JsonObject]:
        """The records of ``log.jsonl``."""
        return read_log(self.folder)


def read_log(folder: Path) -> list[JsonObject]:
    """The records of a run's log; none where there is no log yet."""
    path = folder / LOG
    text = read_text(path) if path.is_file() else ""
    # A line without its end is still being written, or its writer was killed.
    lines = text.split("\n")[:-1]
    records = [parse_json(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line]
    for number, record in enumerate(records, 1):
        check_document(record, {}, f"{path}, line {number}")
        if "epoch" in record:  # then all the others are numbers, or whether it was the best
            numbers = [name for name, value in record.items() if not isinstance(value, bool)]
            keys = dict.fromkeys(numbers, Key(float, null=True))
            check_document(record, {**keys, "epoch": Key(int)}, f"{path}, line {number}")
    return records


def read_config(folder: Path) -> RunConfig:
    """The configuration of a run.

    Raises
    ------
    DlmieError
        Not a run folder, damaged, or of a later version of dlmie.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise DlmieError(f"{folder} is not a run folder: it has no {CONFIG}")
    try:
        document = read_json(path)
    except DataError as error:
        raise DlmieError(f"{path} is damaged: {str(error).partition(': ')[2]}") from error
    if not isinstance(document, dict) or document.get("format") != RunConfig.FORMAT:
        raise DlmieError(f"{path} is not the configuration of a dlmie run")
    version = document.get("version")
    if not isinstance(version, int):
        raise DlmieError(f"{path} is damaged: version must be a whole number, not {version!r}")
    if version > RunConfig.VERSION:
        raise DlmieError(
            f"{path} is of a later version of dlmie: upgrade with pip install -U dlmie"
        )
    task = registry.task(str(document.get("task", "captioning")))
    return RunConfig.from_json(task.upgraded(document), task.options, str(path))


def write_config(folder: Path, config: RunConfig) -> None:
    """Write ``config.json`` so that it is there whole or not at all."""
    atomic.write_json(folder / CONFIG, config.to_json())


def compile(
    model: Trainable, optimizer: optim.Chain | optim.Transform | None = None, **options: object
) -> TrainingStep:
    """Make a training step for a model, compiled when it is first called.

    Parameters
    ----------
    model : Captioner, …
        What learns.
    optimizer : Chain, optional
        A chain of :mod:`dlmie.optim`; by default what suits the task.
    **options
        Of the task's usual objective, and ``seed``: for captioning see
        :class:`~dlmie.captioning.options.TeacherForcingOptions`.
    """
    return registry.task(model.task).compile(model, optimizer, **options)


def train(
    step: TrainingStep,
    data: Data | str | Path,
    *,
    to: str | Path,
    progress: bool = True,
    meta: JsonObject | None = None,
    **options: object,
) -> Run:
    """Train a step on a prepared data set into a new run folder.

    Parameters
    ----------
    step : TrainingStep
        From :func:`dlmie.compile`.
    data : Captions, LabelledImages or path
        Its split "train" is learned from, "dev" decides which epoch was best.
    to : path
        The run folder; it must not hold a run yet.
    progress : bool
        Show a bar, and a line after each epoch.
    meta : mapping, optional
        Noted in the run's configuration: recipe, command line.
    **options
        Of the task: :class:`~dlmie.training.config.TrainingOptions` has those that all tasks share
        (``epochs``, ``batch``, ``monitor``, ``patience``, ``seed``, …),
        :class:`~dlmie.captioning.options.CaptioningOptions` those of captioning, which takes
        ``features``, a feature cache or its path, too.

    Returns
    -------
    Run

    Raises
    ------
    DlmieError
        The folder holds a run, an option is unknown, the data do not fit the model, the loss became
        NaN, the disk is full.
    """
    folder = Path(to)
    world().on_first(partial(check_new, folder))
    task = task_of(step)
    opened = task.open(data) if isinstance(data, (str, Path)) else data
    config, session = task.configure(step, opened, meta or {}, progress=progress, **options)
    return begin(folder, config, task, step, session, progress=progress)


def task_of(step: TrainingStep) -> AnyTask:
    """The task that a step belongs to."""
    return registry.task(step.task)


def check_new(folder: Path) -> None:
    """Refuse a folder that holds a run, or what is no folder."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, and a run is a folder: name another place")
    if (folder / STATE).exists() or (folder / CONFIG).exists():
        raise DlmieError(
            f"{folder} holds a run already: continue it with dlmie train --resume {folder}, "
            "or name another folder"
        )


def begin(
    folder: Path,
    config: RunConfig,
    task: AnyTask,
    step: TrainingStep,
    session: Session,
    *,
    progress: bool,
) -> Run:
    """Write the configuration of a new run, save what it begins with, and train."""
    _check_schedules(config, task, step)
    with _held(folder):
        world().on_first(partial(_begin, folder, config))
        try:
            loop, checkpoint, _ = _loop(folder, config, task, step, session, progress=progress)
            checkpoint.save(loop)  # what it begins with may be in no other place
        except BaseException:  # a full disk: the same command must be able to begin again
            for name in (CONFIG, LOG) if world().is_first else ():
                (folder / name).unlink(missing_ok=True)
            raise
        return _finish(folder, config, loop)


def _check_schedules(config: RunConfig, task: AnyTask, step: TrainingStep) -> None:
    """Refuse to lower the learning rate while what is monitored improves.

    Raises
    ------
    MisuseError
        A plateau schedule takes the other direction for the better one.
    """
    monitored = task.metric(config.training.monitor)
    mode = "max" if monitored.higher_is_better else "min"
    for part in step.parts:
        schedule = part.updates.schedule
        if isinstance(schedule, optim.schedules.Plateau) and schedule.mode != mode:
            raise MisuseError(
                f"{monitored.name} is better where it is {'higher' if mode == 'max' else 'lower'}, "
                f"and the plateau schedule has mode={schedule.mode!r}: it would lower the learning "
                f"rate while training improves; give it mode={mode!r} in a new run"
            )


def _begin(folder: Path, config: RunConfig) -> None:
    check_new(folder)  # it may have taken long to come here
    write_config(folder, config)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder; the lock ends with the process.

    Of several ranks the first holds it.
    """

    def hold() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The one file of a run that is never replaced.
        stack.enter_context(locked(folder / LOG, folder, "training this run"))

    with ExitStack() as stack:
        world().on_first(hold)
        yield


def resume(
    folder: str | Path,
    *,
    epochs: int | None = None,
    set: JsonObject | None = None,
    data: str | Path | None = None,
    progress: bool = True,
) -> Run:
    """Continue a run from its last checkpoint, as if it had never stopped.

    Parameters
    ----------
    folder : path
        The run folder.
    epochs : int, optional
        New number of epochs; default: as first said.  A learning rate's schedule keeps its length.
    set : mapping, optional
        Explicit changes, logged: ``{"lr": 1e-4}`` or any field of the training section.  New epochs
        or patience begin to count afresh, so do scores when what is measured changes; an epoch
        whose batches change begins anew.
    data : path, optional
        Where the data file is now, if it moved; its hash must be the same.

    Raises
    ------
    DlmieError
        No run there, or its data was not found or changed.
    """
    folder = Path(folder)
    world().on_first(partial(read_config, folder))  # is there a run at all?
    with _held(folder):
        return _resume(folder, epochs, set or {}, data, progress=progress)


def _resume(
    folder: Path,
    epochs: int | None,
    set: JsonObject,
    data: str | Path | None,
    *,
    progress: bool,
) -> Run:
    ranks = world()
    config = ranks.on_first(partial(read_config, folder))
    task = registry.task(config.task)
    wanted = {**set, **({} if epochs is None else {"epochs": epochs})}
    config, changes = _changed(config, wanted)
    opened = task.open(data or config.data.path)
    if opened.hash != config.data.hash:
        raise DataError(
            f"{opened.path} is not the data this run was trained on (its hash differs): "
            "name the right file with --data, or start a new run"
        )
    task.check(config.training, opened)
    step = task.build(config, opened)
    step.progress = progress
    if "monitor" in changes:
        _check_schedules(config, task, step)
    session = task.session(config, step, opened, progress=progress)
    loop, checkpoint, log = _loop(folder, config, task, step, session, progress=progress)
    if ranks.on_first(checkpoint.path.exists):
        checkpoint.restore(loop)
        ranks.wait()  # all have read what one will replace
    elif config.meta.get("start"):
        raise DlmieError(
            f"{folder} was stopped before the weights that it starts with were saved: delete it "
            "and begin again"
        )
    else:
        log.truncate(0)  # stopped before the first checkpoint: all is done again
    if changes:
        _apply(changes, config, step, loop.position)
        log.write({"resumed_with": changes, "step": loop.position.step})
        checkpoint.save(loop)
        ranks.on_first(partial(write_config, folder, config))
    return _finish(folder, config, loop, resumed=True)


def _changed(config: RunConfig, wanted: JsonObject) -> tuple[RunConfig, JsonObject]:
    """The configuration with the options that were asked for, and which of them are new."""
    options = config.training.to_json()
    unknown = [key for key in wanted if key != "lr" and key not in options]
    if unknown:
        raise DlmieError(f"cannot set {unknown[0]!r}{suggest(unknown[0], ['lr', *options])}")
    changes = {k: v for k, v in wanted.items() if k == "lr" or v != options[k]}
    if "lr" in changes and not isinstance(changes["lr"], (int, float)):
        raise DlmieError(f"lr must be a number, not {changes['lr']!r}")
    fields = {k: v for k, v in changes.items() if k != "lr"}
    return replace(config, training=config.training.changed(fields)), changes


def _apply(changes: JsonObject, config: RunConfig, step: TrainingStep, here: Position) -> None:
    """What changed options mean for a run that stands in the middle."""
    changed = {*changes}
    if "lr" in changed:
        step.set_learning_rate(float(changes["lr"]))
    if changed & {"epochs", "patience"}:
        here.stale = 0
    if changed & config.training.SCORES:
        here.best, here.best_tie, here.best_epoch, here.stale = None, None, 0, 0
    if changed & config.training.ORDER:
        here.begin_epoch()


def _loop(
    folder: Path,
    config: RunConfig,
    task: AnyTask,
    step: TrainingStep,
    session: Session,
    *,
    progress: bool,
) -> tuple[MainLoop, Checkpoint, JsonLog]:
    """The loop of a run with all that happens beside its steps."""
    options, ranks = config.training, world()
    share_out(step, Shards.of_rank(ranks, options.shards), ranks)
    step.progress = step.progress and ranks.is_first
    log = JsonLog(folder / LOG, unit=step.unit, writes=ranks.is_first)
    checkpoint = Checkpoint(
        folder / STATE,
        {**session.state, **step.state},
        log=log,
        every=options.checkpoint_every,
        writes=ranks.is_first,
    )
    validation = Validation(
        session.measure,
        monitor=task.metric(options.monitor),
        tie_breaker=task.tie_breaker,
        patience=options.patience,
        on_best=partial(session.save_best, folder / BEST) if ranks.is_first else None,
        after=[step.report],
    )
    shown = ProgressBar(
        options.epochs, unit=step.unit, monitor=options.monitor, tie_breaker=task.tie_breaker
    )
    kept = KeptEpochs(folder / EPOCHS, session.save_best)
    loop = MainLoop(
        step,
        session.batches,
        [
            validation,
            *([kept] if options.keep_epochs and ranks.is_first else []),
            *([shown] if progress and ranks.is_first else []),
            log,
            checkpoint,
        ],
    )
    return loop, checkpoint, log


def _finish(folder: Path, config: RunConfig, loop: MainLoop, *, resumed: bool = False) -> Run:
    """Train to the end, and say why it was one."""
    epochs = config.training.epochs
    finished = resumed and loop.position.epoch >= epochs
    position = loop.run(epochs)
    if finished and loop.stop_reason is None:
        loop.stop(f"its {epochs} epochs are done (more with --epochs)")
    return Run(folder, position, loop.stop_reason)
