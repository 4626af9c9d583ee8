"""Checkpoints: all state of a run in one file, from which it continues bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers
from dlmie.files.schema import Key, check_document
from dlmie.training.callbacks import JsonLog
from dlmie.training.loop import INTERRUPTED, Callback, MainLoop, Position, Record
from dlmie.training.step import StepResult

_COUNT = Key(int, low=0, required=False)
_HEADER = {
    "position": Key(
        dict,
        keys={
            "epoch": Key(int, low=0),
            "batch": Key(int, low=0),
            "step": Key(int, low=0),
            "examples": _COUNT,
            "words": _COUNT,
            "weight": Key(float, required=False),
            "sums": Key(dict, required=False, each=Key(float)),
            "epoch_weight": Key(float, required=False),
            "loss_sum": Key(float, required=False),
            "word_sum": _COUNT,
            "seconds": Key(float, required=False),
            "best": Key(float, required=False, null=True),
            "best_tie": Key(float, required=False, null=True),
            "best_epoch": _COUNT,
            "stale": _COUNT,
        },
    ),
    "log_bytes": Key(int, low=0),
}


class Stateful(Protocol):
    """A value that a checkpoint holds: a shared variable, or one cell of NumPy state."""

    def get_value(self, borrow: bool = False) -> np.ndarray:
        """The value; with ``borrow`` it need not be a copy."""

    def set_value(self, value: np.ndarray) -> None:
        """Replace the value by another of the same shape and kind."""


class KeptArray:
    """An array that a checkpoint holds, and gives back in place."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def get_value(self, borrow: bool = False) -> np.ndarray:
        return self._array if borrow else self._array.copy()

    def set_value(self, value: np.ndarray) -> None:
        self._array[...] = value


class Checkpoint(Callback):
    """Save all state to one file: every so often, at each epoch's end, and on stopping.

    Parameters
    ----------
    path : path
        ``state.h5`` of the run.
    state : mapping of Stateful
        By name: parameters, optimizer slots, schedules, noise; a replay buffer.
    log : JsonLog, optional
        Its length is saved, so that resuming drops records written after the checkpoint.
    every : int
        Batches between checkpoints inside an epoch; 0 for none.
    writes : bool
        Whether this process writes the file: of several ranks, whose state is the same, one does.

    Raises
    ------
    DlmieError
        A value has no name that is the same in another process.  When saving: the weights have
        become NaN, and a file that holds good ones is kept instead.
    """

    def __init__(
        self,
        path: Path,
        state: Mapping[str, Stateful],
        *,
        log: JsonLog | None = None,
        every: int = 0,
        writes: bool = True,
    ) -> None:
        for name in state:
            if not name.startswith("/"):
                raise DlmieError(
                    f"a checkpoint finds what it holds by name, and {name!r} is none that lasts: "
                    "name every parameter, such as /decoder/lstm/W"
                )
        self.path, self.state, self.log = path, dict(state), log
        self.every, self.writes = every, writes

    def save(self, loop: MainLoop) -> None:
        """Write the state and the position."""
        arrays = {name: np.asarray(v.get_value(borrow=True)) for name, v in self.state.items()}
        # A plateau schedule keeps a NaN of its own, a scalar, until it hears of a first score.
        broken = [name for name, a in arrays.items() if a.ndim and np.isnan(a).any()]
        if broken:
            raise DlmieError(
                f"{broken[0]} became NaN before step {loop.position.step + 1}: lower the learning "
                "rate or clip the gradient (the last checkpoint is intact)"
            )
        if not self.writes:
            return
        log_bytes = self.log.size() if self.log else 0
        containers.save(
            self.path, arrays, {"position": asdict(loop.position), "log_bytes": log_bytes}
        )

    def restore(self, loop: MainLoop) -> None:
        """Set state and position from the file, and cut the log back to where it was."""
        header, arrays = containers.load(self.path)
        check_document(header, _HEADER, self.path, WeightsError)
        try:
            position = Position.from_json(header["position"])
        except KeyError as error:  # version 0.1 wrote all of its sums or none
            raise WeightsError(f"{self.path}: position.{error.args[0]} is missing") from error
        named = [_Named(name, value) for name, value in self.state.items()]
        containers.assign(named, _renamed(arrays), self.path)
        loop.position = position
        if self.log:
            self.log.truncate(header["log_bytes"])

    def on_batch(self, loop: MainLoop, result: StepResult, seconds: float) -> None:
        if self.every and loop.position.step % self.every == 0:
            self.save(loop)

    def on_epoch(self, loop: MainLoop, record: Record) -> None:
        self.save(loop)

    def on_stop(self, loop: MainLoop) -> None:
        if loop.stop_reason == INTERRUPTED:
            self.save(loop)


def _renamed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, those of version 0.1 under the names they have now."""
    old, new = "/optimiser/", "/optimizer/"
    return {
        new + name.removeprefix(old) if name.startswith(old) else name: array
        for name, array in arrays.items()
    }


@dataclass
class _Named:
    """A value under the name it has in a checkpoint."""

    name: str
    value: Stateful

    def get_value(self, borrow: bool = False) -> np.ndarray:
        return self.value.get_value(borrow=borrow)

    def set_value(self, value: np.ndarray) -> None:
        self.value.set_value(value)
