"""The training loop: small, with everything else as callbacks.

The loop knows batches, a step and a position; saving, logging, validating and showing progress are
callbacks with the same four methods.  Whatever decides the course of a run is either in the state
of the step or in :class:`Position`, so a checkpoint of both continues bit for bit.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from types import FrameType
from typing import Protocol

from dlmie.errors import DlmieError
from dlmie.parallel import world
from dlmie.training.objective import Batch
from dlmie.training.step import StepResult
from dlmie.typing import JsonObject

#: What a signal does: what ``signal.signal`` takes and gives.
Handler = Callable[[int, FrameType | None], object] | int | None

#: ``stop_reason`` of a loop that Ctrl-C ended.
INTERRUPTED = "interrupted"

Record = dict[str, float]
"""What is logged of an epoch: numbers by name."""


class EpochBatches(Protocol):
    """The batches of an epoch from some number on; the length is that of the whole epoch."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


@dataclass
class Position:
    """Where a run is: saved with every checkpoint."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the current epoch
    step: int = 0  # finished batches in all
    examples: int = 0  # trained on in all
    weight: float = 0.0  # of all losses: the words or examples they were divided by
    sums: dict[str, float] = field(default_factory=dict)  # of the current epoch, for its record
    epoch_weight: float = 0.0
    seconds: float = 0.0
    best: float | None = None  # best monitored score
    best_tie: float | None = None  # the tie breaker's score then
    best_epoch: int = 0
    stale: int = 0  # validations since then

    @classmethod
    def from_json(cls, saved: JsonObject) -> Position:
        """The position of a checkpoint, also of one that version 0.1 wrote."""
        known = {f.name for f in fields(cls)}
        position = cls(**{name: value for name, value in saved.items() if name in known})
        if "loss_sum" in saved:
            position.sums = {"loss": saved["loss_sum"]}
            position.weight, position.epoch_weight = saved["words"], saved["word_sum"]
        return position

    def means(self) -> dict[str, float]:
        """What was measured in the current epoch, divided by its weight."""
        return {name: total / max(self.epoch_weight, 1) for name, total in self.sums.items()}

    def count(self, result: StepResult) -> None:
        """Add a batch."""
        self.batch, self.step = self.batch + 1, self.step + 1
        self.examples += result.examples
        self.weight += result.weight
        self.epoch_weight += result.weight
        for name, value in result.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def begin_epoch(self) -> None:
        """Forget what was measured since the last epoch's end."""
        self.batch, self.sums, self.epoch_weight, self.seconds = 0, {}, 0.0, 0.0


class Callback:
    """Something that happens during training; override what you need."""

    def on_start(self, loop: MainLoop) -> None:
        """Before the first batch."""

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        """After each batch, which took so many seconds."""

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        """After each epoch; add what was measured to its record."""

    def on_stop(self, loop: MainLoop) -> None:
        """When the loop ends, for whatever reason: ``loop.stop_reason`` names it."""


@dataclass
class MainLoop:
    """Run ``step`` over the batches of epoch after epoch.

    Parameters
    ----------
    step : callable
        Takes a batch, updates the parameters, returns a :class:`StepResult`.
    batches : callable
        ``batches(epoch, start)``: the batches of an epoch from number ``start`` on.
    callbacks : sequence of Callback
        Called in order.
    """

    step: Callable[[Batch], StepResult]
    batches: Callable[[int, int], EpochBatches]
    callbacks: Sequence[Callback] = ()
    position: Position = field(default_factory=Position)
    batches_per_epoch: int = 0
    stop_reason: str | None = None
    _asked: str | None = None  # by a signal, at any time

    def stop(self, reason: str) -> None:
        """End the loop after the current batch; of several ranks, all must say so."""
        self.stop_reason = reason

    def _ask_to_stop(self, reason: str) -> None:
        self._asked = reason

    def _ends(self) -> bool:
        """Whether to end now, which all ranks decide together: a signal reaches each at its time.

        With one rank it does what was asked.
        """
        self.stop_reason = self.stop_reason or world().agreed(self._asked)
        return self.stop_reason is not None

    def run(self, epochs: int) -> Position:
        """Train until ``epochs`` epochs are finished or something calls :meth:`stop`."""
        here = self.position
        for callback in self.callbacks:
            callback.on_start(self)
        try:
            with graceful_interrupt(self._ask_to_stop):
                while not self._ends() and here.epoch < epochs:
                    self._epoch(here)
        except BaseException as error:
            self.stop_reason = f"failed: {error!r}"
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
            result = self.step(batch)
            loss = result.sums["loss"]
            if not math.isfinite(loss):
                raise DlmieError(
                    f"the loss became {loss} at step {here.step + 1}: lower the learning rate or "
                    "clip the gradient (the last checkpoint is intact)"
                )
            seconds = time.perf_counter() - started  # waiting for the batch is part of it
            here.count(result)
            here.seconds += seconds
            for callback in self.callbacks:
                callback.on_batch(self, result, seconds)
            if self._ends():
                return
            started = time.perf_counter()
        record: Record = {
            "epoch": here.epoch + 1,
            "step": here.step,
            **here.means(),
            "seconds": round(here.seconds, 1),
        }
        here.epoch += 1
        here.begin_epoch()
        for callback in self.callbacks:
            callback.on_epoch(self, record)


@contextmanager
def graceful_interrupt(stop: Callable[[str], None]) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop; the second one interrupts.

    So do SIGTERM and, unless it is ignored (``nohup``), SIGHUP of a terminal that is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(number, previous[number] or signal.SIG_DFL)
        stop(INTERRUPTED)
        if not world().is_first:
            return
        # Not through sys.stderr: a handler that interrupts its write must not write to it again.
        os.write(2, b"\nfinishing this batch, then saving (press Ctrl-C again to stop at once)\n")

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    previous: dict[int, Handler] = {n: signal.signal(n, handle) for n in ending}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
