"""What happens beside the steps of training: logs, validation, progress."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dlmie.errors import DlmieError
from dlmie.files import atomic
from dlmie.parallel import world
from dlmie.training.loop import Callback, MainLoop, Position, Record
from dlmie.training.metric import Metric
from dlmie.training.step import StepResult

if TYPE_CHECKING:
    from dlmie.progress import Bar


class JsonLog(Callback):
    """One JSON object per line: every ``every`` batches, and each epoch's record.

    Parameters
    ----------
    path : path
    every : int
        Batches between records.
    unit : str
        What the weight of a loss counts: "words".
    writes : bool
        Whether this process writes the log: of several ranks one does.
    """

    def __init__(
        self, path: Path, *, every: int = 50, unit: str = "examples", writes: bool = True
    ) -> None:
        self.path, self.every, self.unit, self.writes = path, every, unit, writes

    def write(self, record: Mapping[str, object]) -> None:
        """Append a record; it is on the disk when this returns."""
        if not self.writes:
            return
        with atomic.explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        """Drop what was written after the first ``size`` bytes."""
        if self.writes and self.size() > size:
            os.truncate(self.path, size)

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        if loop.position.step % self.every == 0:
            rate = round(result.weight / max(seconds, 1e-9))
            loss = result.sums["loss"] / max(result.weight, 1)
            self.write(
                {"step": loop.position.step, "batch_loss": loss, f"{self.unit}_per_second": rate}
            )

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        self.write(record)


class Validation(Callback):
    """Measure, keep the best, stop when it no longer improves.

    Parameters
    ----------
    measure : callable
        Returns scores by name, for instance free-running BLEU and the dev loss.
    monitor : Metric
        The score that decides.
    tie_breaker : Metric, optional
        What decides between equal scores: BLEU is 0 for the first epochs on little data.
    patience : int, optional
        Stop after this many validations without improvement; None: never.
    on_best : callable, optional
        Called with the record whenever the monitored score improves: saves the model.
    after : iterable of callables
        Called with the monitored score: a plateau schedule's ``report``.
    """

    def __init__(
        self,
        measure: Callable[[], Mapping[str, float]],
        *,
        monitor: Metric,
        tie_breaker: Metric | None = None,
        patience: int | None = None,
        on_best: Callable[[Record], None] | None = None,
        after: Iterable[Callable[[float], object]] = (),
    ) -> None:
        self.measure, self.monitor, self.patience = measure, monitor, patience
        self.tie_breaker = tie_breaker
        self.on_best, self.after = on_best, list(after)

    def on_start(self, loop: MainLoop) -> None:
        # A run that had ended by patience ends again when it is continued unchanged.
        self._stop_if_stale(loop)

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        here = loop.position
        # All ranks measure together, and go by the numbers of one.
        record.update(world().of_first(self.measure()))
        if self.monitor.name not in record:
            raise DlmieError(
                f"cannot monitor {self.monitor.name!r}: measured are {', '.join(record)}"
            )
        score = float(record[self.monitor.name])
        tie = None if self.tie_breaker is None else record.get(self.tie_breaker.name)
        if self._improved(here, score, tie):
            here.best, here.best_tie, here.best_epoch, here.stale = score, tie, here.epoch, 0
            record["best"] = True
            if self.on_best:
                self.on_best(record)
        else:
            here.stale += 1
            self._stop_if_stale(loop)
        for report in self.after:
            report(score)

    def _improved(self, here: Position, score: float, tie: float | None) -> bool:
        if math.isnan(score):
            return False
        if here.best is None or self.monitor.better(score, than=here.best):
            return True
        if score != here.best or self.tie_breaker is None or tie is None or here.best_tie is None:
            return False
        return self.tie_breaker.better(tie, than=here.best_tie)

    def _stop_if_stale(self, loop: MainLoop) -> None:
        here = loop.position
        if self.patience is not None and here.best is not None and here.stale >= self.patience:
            loop.stop(
                f"{self.monitor.name} has not improved for {here.stale} epochs "
                f"(best {here.best:.4f} after epoch {here.best_epoch})"
            )


class KeptEpochs(Callback):
    """Write the model of each epoch to a file of its own, ``0001.h5``.

    Parameters
    ----------
    folder : path
    save : callable
        Writes the model; handed the path and the record of the epoch.
    """

    def __init__(self, folder: Path, save: Callable[[Path, Record], None]) -> None:
        self.folder, self.save = folder, save

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        self.folder.mkdir(exist_ok=True)
        self.save(self.folder / f"{loop.position.epoch:04}.h5", record)


class ProgressBar(Callback):
    """A bar for each epoch with loss, rate and time left; a line after each epoch."""

    def __init__(
        self,
        epochs: int,
        *,
        unit: str = "examples",
        monitor: str | None = None,
        tie_breaker: Metric | None = None,
    ) -> None:
        self.epochs, self.unit = epochs, unit
        self.monitor, self.tie_breaker = monitor, tie_breaker
        self._bar: Bar | None = None
        self._weight = self._seconds = 0.0

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        from dlmie.progress import Bar

        here = loop.position
        if self._bar is None:
            self._weight = self._seconds = 0.0
            self._bar = Bar(
                total=loop.batches_per_epoch,
                initial=here.batch - 1,
                desc=f"epoch {here.epoch + 1}/{self.epochs}",
                unit="batch",
                leave=False,
                dynamic_ncols=True,
            )
        self._weight, self._seconds = self._weight + result.weight, self._seconds + seconds
        rate = self._weight / max(self._seconds, 1e-9)
        text = f"loss {here.means()['loss']:.3f}, {rate:,.0f} {self.unit}/s"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update()

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        from dlmie.progress import Bar

        self._close()
        shown = {k: v for k, v in record.items() if isinstance(v, float) and k != "seconds"}
        scores = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        star = " *" if record.get("best") else ""
        Bar.write(f"epoch {record['epoch']}/{self.epochs}: {scores}{star}", file=sys.stderr)
        if self.tie_breaker is not None and record.get(self.monitor or "") == 0.0:
            Bar.write(
                f"{self.monitor} is 0 so far: {self.tie_breaker.name} decides which epoch is best",
                file=sys.stderr,
            )

    def on_stop(self, loop: MainLoop) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
