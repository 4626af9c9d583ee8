"""Batches of one epoch after the other, in an order that a seed decides and that can resume."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Generic, TypeVar

from dlmie.data.prefetch import prefetch as work_ahead
from dlmie.errors import DataError

BatchT = TypeVar("BatchT")


class ResumableBatches(ABC, Generic[BatchT]):
    """Iterate over what is left of an epoch; iterate again for the next one.

    While the body of a loop handles a batch, ``position`` already counts it: save ``epoch`` and
    ``position``, give them to a new object, and it continues with the next batch.

    A subclass implements `__len__` and `make`, whose result must depend on nothing but the seed,
    the epoch and the position, and calls `seek` when it knows its length.

    Parameters
    ----------
    batch
        Rows of a batch; the last of an epoch may have fewer.
    seed
        Of everything random.
    prefetch
        How many batches a background thread may work ahead; 0 works without a thread.

    Raises
    ------
    DataError
        An option is out of its range.
    """

    def __init__(self, *, batch: int, seed: int, prefetch: int) -> None:
        at_least({"batch": batch}, 1)
        at_least({"seed": seed, "prefetch": prefetch}, 0)
        self.batch, self.seed, self.prefetch = batch, seed, prefetch
        self.epoch = self.position = 0

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch; the same for every epoch."""

    @abstractmethod
    def make(self, epoch: int, position: int) -> Iterator[BatchT]:
        """The batches of an epoch from number ``position`` on."""

    def seek(self, epoch: int, position: int) -> None:
        """Begin with a batch of an epoch.

        Raises
        ------
        DataError
            An epoch has fewer batches.
        """
        at_least({"epoch": epoch, "position": position}, 0)
        if position > len(self):
            raise DataError(
                f"position {position} is beyond the {len(self)} batches of an epoch: the data or "
                "the batch size is another than when it was saved"
            )
        self.epoch, self.position = epoch, position

    def __iter__(self) -> Iterator[BatchT]:
        made = self.make(self.epoch, self.position)
        with closing(work_ahead(made, self.prefetch)) as ready:
            for batch in ready:
                self.position += 1
                yield batch
        self.epoch, self.position = self.epoch + 1, 0


def at_least(options: Mapping[str, int | None], least: int) -> None:
    """Refuse options that are too small; None is not given.

    Raises
    ------
    DataError
        Names the first of them.
    """
    for name, value in options.items():
        if value is not None and value < least:
            raise DataError(f"{name} is {value}; it must be at least {least}")
