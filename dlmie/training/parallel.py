"""Batches that are shared out: among the ranks of a parallel program, or over time.

A batch is cut into shards (:class:`~dlmie.parallel.Shards`).  The gradient of a batch is the sum of
those of its shards, divided by the weight of all, so where they are computed changes no more than
the order of a sum: the batch, the learning rate and everything that follows are those of one
process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.io import In
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from dlmie import optim
from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise
from dlmie.ops.collectives.sum_over_ranks import sum_over_ranks
from dlmie.parallel import Ranks, Shards
from dlmie.parallel.sums import add_pairwise
from dlmie.training.objective import Batch
from dlmie.training.step import StepResult, TrainingStep, Update


@runtime_checkable
class SharedBatch(Protocol):
    """The rows of a batch that some shards have, one shard after the other."""

    @property
    def shard_sizes(self) -> Sequence[int]:
        """Rows of each shard.  Where all are 0, a row of another stands in, which must not count:
        every rank computes something."""

    def __getitem__(self, name: str, /) -> np.ndarray: ...


@dataclass(frozen=True)
class _Rows:
    """Some rows of a batch."""

    batch: Batch
    rows: slice

    def __getitem__(self, name: str) -> np.ndarray:
        return self.batch[name][self.rows]


def share_out(step: TrainingStep, shards: Shards, ranks: Ranks) -> None:
    """Make a step compute only its shards of each batch, and add them up with the other ranks.

    Nothing changes where one rank computes whole batches.  Otherwise the step begins anew: what its
    optimizer remembered is forgotten.
    """
    if shards == step.shards:
        return
    kind = _Accumulated if shards.fixed else _Summed
    step.shards, step.noise = shards, Noise(step.seed, streams=True)
    step.parts = [kind(part, shards, ranks) for part in step.parts]
    for part in step.parts:
        part.build(step.noise)


class _Shared(Update):
    """An update whose gradients are sums over shards."""

    def __init__(self, update: Update, shards: Shards, ranks: Ranks) -> None:
        super().__init__(
            update.objective, update.optimizer, parameters=update.given_parameters, name=update.name
        )
        self.shards, self.ranks = shards, ranks

    @property
    def _averaged(self) -> dict[SharedVariable, Variable]:
        """What a shard makes of running statistics: their mean, by weight, is what remains."""
        return {v: new for v, new in self.loss.updates if v.type.dtype.startswith("float")}

    @property
    def _counted(self) -> dict[SharedVariable, Variable]:
        """New values that do not depend on the batch, such as keys of noise."""
        return {v: new for v, new in self.loss.updates if v not in self._averaged}

    def _result(self, sums: Sequence[np.ndarray], weight: object, examples: object) -> StepResult:
        named = dict(zip(self.loss.reported, map(float, sums), strict=True))
        return StepResult(named, float(np.asarray(weight)), int(np.asarray(examples)))


class _Summed(_Shared):
    """One shard for each rank, in one compiled function: sums stand between gradient and rule."""

    def _updates(self) -> optim.Updates:
        loss, dtype = self.loss, self.loss.total.type.dtype
        self._rows = pt.lscalar("rows")  # 0: what is computed does not count
        counts = pt.cast(self._rows > 0, dtype)
        own = loss.weight * counts
        (weight,) = sum_over_ranks([own], self.ranks)
        gradients = optim.gradients_of(loss.total * counts / weight, self.parameters)
        reported = [v * pt.cast(counts, v.type.dtype) for v in loss.reported.values()]
        statistics = [_fitting(new * (own / weight), new) for new in self._averaged.values()]
        summed = iter(sum_over_ranks([*reported, self._rows, *statistics, *gradients], self.ranks))
        self._outputs = [*(next(summed) for _ in reported), weight, next(summed)]
        self._carried = [(v, next(summed)) for v in self._averaged]
        return self.optimizer.updates_from(list(summed), self.parameters, name=self.name)

    def compile(self, *, progress: bool) -> None:
        if self._run is None:
            self._run = function(
                [*self.objective.inputs.values(), self._rows],
                self._outputs,
                updates=[*self.updates, *self._carried, *self._counted.items()],
                name=f"{self.name or self.objective.name} training step",
                progress=progress,
            )

    def __call__(self, batch: Batch) -> StepResult:
        """One update, by all ranks together."""
        (size,) = _sizes(batch)
        self.noise.use_stream(self.shards.start)
        arrays = self.objective.arrays(batch)
        self.compile(progress=False)
        assert self._run is not None
        rows = np.int64(len(arrays[0]) if size else 0)
        *sums, weight, examples = self._run(*arrays, rows)
        return self._result(sums, weight, examples)


class _Accumulated(_Shared):
    """Several shards, one after the other, added in an order that no number of ranks changes.

    Two compiled functions: sums of a shard, and what the optimizer makes of the sums of all.
    """

    def _updates(self) -> optim.Updates:
        loss = self.loss
        gradients = optim.gradients_of(loss.total, self.parameters)
        statistics = [_fitting(new * loss.weight, new) for new in self._averaged.values()]
        self._parts = [*loss.reported.values(), loss.weight, *statistics, *gradients]
        self._given = [part.type() for part in self._parts]
        self._examples = pt.lscalar("examples")
        summed = iter(sum_over_ranks([self._examples, *self._given], self.ranks, ordered=True))
        examples = next(summed)
        reported = [next(summed) for _ in loss.reported]
        weight = next(summed)
        self._outputs = [*reported, weight, examples]
        self._carried = [(v, _fitting(next(summed) / weight, v)) for v in self._averaged]
        means = [_fitting(total / weight, total) for total in summed]
        return self.optimizer.updates_from(means, self.parameters, name=self.name)

    def compile(self, *, progress: bool) -> None:
        if self._run is not None:
            return
        name = self.name or self.objective.name
        key = self.noise.key
        # The key moves on once per batch: shards differ by their stream.
        self._gradient: Callable[..., list[np.ndarray]] = function(
            [*self.objective.inputs.values()],
            self._parts,
            updates=[(key, key)],
            name=f"{name} gradient",
            progress=progress,
        )
        self._run = function(
            [self._examples, *(In(v, mutable=True, borrow=True) for v in self._given)],
            self._outputs,
            updates=[*self.updates, *self._carried, *{key: key + 1, **self._counted}.items()],
            name=f"{name} update",
            progress=progress,
        )

    def __call__(self, batch: Batch) -> StepResult:
        """One update of all shards; those of other ranks are added up by all together."""
        self.compile(progress=False)
        assert self._run is not None
        total = add_pairwise(self._sums(batch))
        *sums, weight, examples = self._run(*(part[()] for part in total))
        return self._result(sums, weight, examples)

    def _sums(self, batch: Batch) -> Iterator[list[np.ndarray]]:
        """For each of these shards its number of rows and its sums."""
        start = 0
        for number, size in enumerate(_sizes(batch), self.shards.start):
            if size == 0:
                yield self._nothing()
                continue
            self.noise.use_stream(number)
            arrays = self.objective.arrays(_Rows(batch, slice(start, start + size)))
            made = [np.asarray(part) for part in self._gradient(*arrays)]
            yield [np.array(len(arrays[0]), np.int64), *made]
            start += size

    def _nothing(self) -> list[np.ndarray]:
        """The sums of no rows."""
        shaped = [v.get_value(borrow=True).shape for v in (*self._averaged, *self.parameters)]
        shapes = [()] * (len(self._given) - len(shaped)) + shaped
        zeros = [np.zeros(s, v.type.dtype) for s, v in zip(shapes, self._given, strict=True)]
        return [np.zeros((), np.int64), *zeros]


def _sizes(batch: Batch) -> Sequence[int]:
    if not isinstance(batch, SharedBatch):
        raise DlmieError(
            f"this batch ({type(batch).__name__}) is not shared out: it does not say how many of "
            "its rows each shard has (shard_sizes)"
        )
    return batch.shard_sizes


def _fitting(variable: Variable, like: Variable) -> Variable:
    """A variable in the dtype of another."""
    return variable.astype(like.type.dtype)
