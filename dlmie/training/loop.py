"""The training loop: small, with everything else as callbacks.

The loop knows batches, a compiled step and a position; saving, logging, validating and showing
progress are callbacks with the same four methods.  Whatever decides the course of a run is either
in the shared variables of the step or in :class:`Position`, so a checkpoint of both continues
bit for bit.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlmie.errors import DlmieError
from dlmie.files import containers as storage

#: ``stop_reason`` of a loop that Ctrl-C ended.
INTERRUPTED = "interrupted"


@dataclass
class Position:
    """Where a run is: saved with every checkpoint."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # finished batches in all
    words: int = 0  # words trained on in all
    loss_sum: float = 0.0  # of the current epoch, for its record
    word_sum: int = 0
    seconds: float = 0.0
    best: float | None = None  # best monitored score
    best_epoch: int = 0
    stale: int = 0  # validations since then


class Callback:
    """Something that happens during training; override what you need."""

    def on_start(self, loop: MainLoop) -> None:
        """Before the first batch of this session."""

    def on_batch(self, loop: MainLoop, loss: float, words: int, seconds: float) -> None:
        """After each batch; ``loss`` is per word."""

    def on_epoch(self, loop: MainLoop, record: dict[str, Any]) -> None:
        """After each epoch; add what was measured to its record."""

    def on_stop(self, loop: MainLoop) -> None:
        """When the loop ends, for whatever reason: ``loop.stop_reason`` says it."""


@dataclass
class MainLoop:
    """Run ``step`` over the batches of epoch after epoch.

    Parameters
    ----------
    step : callable
        Takes a batch, updates the parameters, returns (summed loss, number of words).
    batches : callable
        ``batches(epoch, start)``: an iterable over the batches of an epoch from number ``start``
        on; its length is that of the whole epoch.
    callbacks : sequence of Callback
        Called in order.
    """

    step: Callable[[Any], tuple[float, int]]
    batches: Callable[[int, int], Any]
    callbacks: Sequence[Callback] = ()
    position: Position = field(default_factory=Position)
    batches_per_epoch: int = 0
    stop_reason: str | None = None

    def stop(self, reason: str) -> None:
        """End the loop after the current batch."""
        self.stop_reason = reason

    def run(self, epochs: int) -> Position:
        """Train until ``epochs`` epochs are finished or something calls :meth:`stop`."""
        here = self.position
        for callback in self.callbacks:
            callback.on_start(self)
        try:
            with graceful_interrupt(self.stop):
                while here.epoch < epochs and self.stop_reason is None:
                    self._epoch(here)
        except BaseException as error:
            self.stop_reason = f"broken off: {error!r}"
            raise
        finally:
            for callback in self.callbacks:
                callback.on_stop(self)
        return here

    def _epoch(self, here: Position) -> None:
        batches = self.batches(here.epoch, here.batch)
        self.batches_per_epoch = len(batches)
        started = time.perf_counter()
        for batch in batches:
            loss, words = self.step(batch)
            if not math.isfinite(loss):
                raise DlmieError(
                    f"the loss became {loss} at step {here.step + 1}: lower the learning rate or "
                    "clip the gradient (the last checkpoint is intact)"
                )
            seconds = time.perf_counter() - started  # waiting for the batch is part of it
            here.batch, here.step, here.words = here.batch + 1, here.step + 1, here.words + words
            here.loss_sum, here.word_sum = here.loss_sum + loss, here.word_sum + words
            here.seconds += seconds
            for callback in self.callbacks:
                callback.on_batch(self, loss / max(words, 1), words, seconds)
            if self.stop_reason is not None:
                return
            started = time.perf_counter()
        record: dict[str, Any] = {
            "epoch": here.epoch + 1,
            "step": here.step,
            "loss": here.loss_sum / max(here.word_sum, 1),
            "seconds": round(here.seconds, 1),
        }
        here.epoch, here.batch = here.epoch + 1, 0
        here.loss_sum, here.word_sum, here.seconds = 0.0, 0, 0.0
        for callback in self.callbacks:
            callback.on_epoch(self, record)


@contextmanager
def graceful_interrupt(stop: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to stop; the second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(number, previous[number] or signal.SIG_DFL)
        sys.stderr.write("\nfinishing this batch, then saving (once more to break off)\n")
        stop(INTERRUPTED)

    previous: dict[int, Any] = {
        n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)


class Checkpoint(Callback):
    """Save all state to one file: every so often, at each epoch's end, and on stopping.

    Parameters
    ----------
    path : path
        ``state.h5`` of the run.
    state : mapping
        Shared variables by name: parameters, optimiser slots, schedules, noise.
    log : JsonLog, optional
        Its length is saved, so that resuming drops records written after the checkpoint.
    every : int
        Batches between checkpoints inside an epoch; 0 for none.

    Raises
    ------
    DlmieError
        When saving: the weights have become NaN, and a file that holds good ones is kept instead.
    """

    def __init__(
        self,
        path: Path,
        state: Mapping[str, Any],
        *,
        log: JsonLog | None = None,
        every: int = 0,
    ) -> None:
        self.path, self.state, self.log, self.every = path, dict(state), log, every

    def save(self, loop: MainLoop) -> None:
        arrays = {name: np.asarray(v.get_value(borrow=True)) for name, v in self.state.items()}
        # A plateau schedule keeps a NaN of its own, a scalar, until it hears of a first score.
        broken = [name for name, a in arrays.items() if a.ndim and np.isnan(a).any()]
        if broken:
            raise DlmieError(
                f"{broken[0]} became NaN before step {loop.position.step + 1}: lower the learning "
                "rate or clip the gradient (the last checkpoint is intact)"
            )
        log_bytes = self.log.size() if self.log else 0
        header = {"position": asdict(loop.position), "log_bytes": log_bytes}
        storage.save(self.path, arrays, header)

    def restore(self, loop: MainLoop) -> None:
        """Set state and position from the file, and cut the log back to where it was."""
        header, arrays = storage.load(self.path)
        named = [_Named(name, variable) for name, variable in self.state.items()]
        storage.assign(named, arrays, self.path)
        loop.position = Position(**header["position"])
        if self.log:
            self.log.truncate(header["log_bytes"])

    def on_batch(self, loop: MainLoop, loss: float, words: int, seconds: float) -> None:
        if self.every and loop.position.step % self.every == 0:
            self.save(loop)

    def on_epoch(self, loop: MainLoop, record: dict[str, Any]) -> None:
        self.save(loop)

    def on_stop(self, loop: MainLoop) -> None:
        if loop.stop_reason == INTERRUPTED:
            self.save(loop)


@dataclass
class _Named:
    """A shared variable under the name it has in a checkpoint."""

    name: str
    variable: Any

    def get_value(self, borrow: bool = False) -> Any:
        return self.variable.get_value(borrow=borrow)

    def set_value(self, value: Any) -> None:
        self.variable.set_value(value)


class JsonLog(Callback):
    """One JSON object a line: every ``every`` batches, and each epoch's record."""

    def __init__(self, path: Path, *, every: int = 50) -> None:
        self.path, self.every = path, every

    def write(self, record: Mapping[str, Any]) -> None:
        with storage.explained(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        if self.size() > size:
            os.truncate(self.path, size)

    def on_batch(self, loop: MainLoop, loss: float, words: int, seconds: float) -> None:
        if loop.position.step % self.every == 0:
            rate = words / max(seconds, 1e-9)
            self.write(
                {"step": loop.position.step, "batch_loss": loss, "words_per_second": round(rate)}
            )

    def on_epoch(self, loop: MainLoop, record: dict[str, Any]) -> None:
        self.write(record)


class Validation(Callback):
    """Measure, keep the best, stop when it no longer improves.

    Parameters
    ----------
    measure : callable
        Returns scores by name, for instance free-running BLEU and the dev loss.
    monitor : str
        The score that decides; losses and the perplexity improve downwards.
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
        monitor: str,
        patience: int | None = None,
        on_best: Callable[[dict[str, Any]], None] | None = None,
        after: Iterable[Callable[[float], Any]] = (),
    ) -> None:
        self.measure, self.monitor, self.patience = measure, monitor, patience
        self.on_best, self.after = on_best, list(after)
        downwards = monitor.endswith("loss") or monitor == "perplexity"
        self.sign = -1.0 if downwards else 1.0

    def on_start(self, loop: MainLoop) -> None:
        # A run that had ended by patience ends again when it is continued unchanged.
        self._stop_if_stale(loop)

    def on_epoch(self, loop: MainLoop, record: dict[str, Any]) -> None:
        here = loop.position
        record.update(self.measure())
        if self.monitor not in record:
            raise DlmieError(f"cannot monitor {self.monitor!r}: measured are {', '.join(record)}")
        score = float(record[self.monitor])
        if here.best is None or self.sign * score > self.sign * here.best:
            here.best, here.best_epoch, here.stale = score, here.epoch, 0
            record["best"] = True
            if self.on_best:
                self.on_best(record)
        else:
            here.stale += 1
            self._stop_if_stale(loop)
        for report in self.after:
            report(score)

    def _stop_if_stale(self, loop: MainLoop) -> None:
        here = loop.position
        if self.patience is not None and here.best is not None and here.stale >= self.patience:
            loop.stop(
                f"{self.monitor} has not improved for {here.stale} epochs "
                f"(best {here.best:.4f} after epoch {here.best_epoch})"
            )


class ProgressBar(Callback):
    """A tqdm bar an epoch with loss, words per second and time left; a line after each epoch."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self._bar: Any = None
        self._words = self._seconds = 0.0

    def on_batch(self, loop: MainLoop, loss: float, words: int, seconds: float) -> None:
        from tqdm import tqdm

        here = loop.position
        if self._bar is None:
            self._words = self._seconds = 0.0
            self._bar = tqdm(
                total=loop.batches_per_epoch,
                initial=here.batch - 1,
                desc=f"epoch {here.epoch + 1}/{self.epochs}",
                unit="batch",
                leave=False,
                dynamic_ncols=True,
            )
        self._words, self._seconds = self._words + words, self._seconds + seconds
        mean = here.loss_sum / max(here.word_sum, 1)
        rate = self._words / max(self._seconds, 1e-9)
        self._bar.set_postfix_str(f"loss {mean:.3f}, {rate:,.0f} words/s", refresh=False)
        self._bar.update()

    def on_epoch(self, loop: MainLoop, record: dict[str, Any]) -> None:
        from tqdm import tqdm

        self._close()
        shown = {k: v for k, v in record.items() if isinstance(v, float) and k != "seconds"}
        scores = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        star = " *" if record.get("best") else ""
        tqdm.write(f"epoch {record['epoch']}/{self.epochs}: {scores}{star}", file=sys.stderr)

    def on_stop(self, loop: MainLoop) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
