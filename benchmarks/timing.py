"""Time dlmie and PyTorch in turn, so that whatever else the machine does affects both alike."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.agreement import Result, Tolerance, agree

if TYPE_CHECKING:
    from benchmarks.limits import Work

Run = Callable[[], Result]
#: What a row measured, by name of the JSON field; ``rows.py`` adds the row's name and goal.
Entry = dict[str, Any]

COLUMNS = (
    *("dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s"),
    *("onnxruntime_s", "openvino_s"),
)

#: Seconds before every call: threads that still spin while they wait for more work, as those of
#: PyTorch do for milliseconds, must not take the time of whatever runs next.
PAUSE = 0.01


@dataclass(frozen=True)
class Budget:
    """How long a row may be timed.

    Plain ``dlmie bench`` should take ten minutes at most on a slow machine with two processors.
    Compiling takes about half of that there, and seven rows are timed: 30 seconds each, or as long
    as the fewest rounds take.

    Parameters
    ----------
    seconds : float
        No round begins that would probably end later.
    most, fewest : int
        Rounds: as many as fit, within these bounds.
    """

    seconds: float = 30.0
    most: int = 7
    fewest: int = 3

    def allows(self, rounds: int, spent: float) -> bool:
        """Whether another round may follow ``rounds`` that took ``spent`` seconds together."""
        if rounds < self.fewest:
            return True
        return rounds < self.most and spent * (rounds + 1) / rounds <= self.seconds


@contextlib.contextmanager
def using_threads(threads: int | None = None) -> Iterator[None]:
    """Give dlmie and PyTorch the same number of threads; None: as many as dlmie has."""
    import torch

    from dlmie.compilation import get_threads, set_threads

    before = get_threads(), torch.get_num_threads()
    set_threads(threads or before[0])
    torch.set_num_threads(threads or before[0])
    try:
        yield
    finally:
        set_threads(before[0])
        torch.set_num_threads(before[1])


def race(
    ours: Run,
    theirs: Run,
    *,
    channels_last: Run | None = None,
    compiled: Run | None = None,
    engines: Mapping[str, Run] | None = None,
    tolerance: Tolerance | None = None,
    work: Work | None = None,
    budget: Budget = Budget(),
    clock: Callable[[], float] = time.perf_counter,
) -> Entry:
    """Compare the results of the first calls, then time further ones in turn.

    Parameters
    ----------
    ours, theirs, channels_last, compiled
        The same work by dlmie, by PyTorch, and by PyTorch in other ways.
    engines : dict, optional
        The same work by other engines, by their columns (:mod:`benchmarks.engines`), whose results
        were compared there.
    tolerance : Tolerance, optional
        How closely the results must agree with those of ``theirs``; None: they are not compared.
    work : Work, optional
        The least that must be done; gives ``limit_s`` and ``limited_by``.
    budget : Budget
        How many rounds are timed.
    clock : callable
        The time in seconds.

    Returns
    -------
    dict
        `COLUMNS`: medians, None where not run; ``ratio`` against the fastest of the others (above
        1: dlmie is faster); ``spread``, the widest of all ranges as a fraction of its median;
        ``rounds`` and ``budget_s``; ``agreement`` of dlmie with ``theirs``; the limit.

    Raises
    ------
    Disagreement
        The results differ.
    """
    entered = zip(COLUMNS[:4], (ours, theirs, channels_last, compiled), strict=True)
    runs = {column: run for column, run in entered if run is not None}
    results = {column: run() for column, run in runs.items()}  # which warms everything up
    agreement = {} if tolerance is None else _agreement(results, tolerance)
    del results
    return {
        **dict.fromkeys(COLUMNS),
        **timed({**runs, **(engines or {})}, budget, clock),
        **agreement,
        **({} if work is None else work.limit()),
    }


def _agreement(results: dict[str, Result], tolerance: Tolerance) -> Entry:
    """How well dlmie agrees with PyTorch; its other ways must agree with it as well."""
    expected = results["torch_eager_s"]
    for column in COLUMNS[2:4]:
        if column in results:
            other = column.removeprefix("torch_").removesuffix("_s")
            agree(results[column], expected, tolerance, f"PyTorch and PyTorch with {other}")
    return agree(results["dlmie_s"], expected, tolerance).entry()


def timed(
    runs: Mapping[str, Callable[[], object]],
    budget: Budget,
    clock: Callable[[], float] = time.perf_counter,
) -> Entry:
    """Time runs in turn; the first is dlmie's.

    Returns
    -------
    dict
        The median of each run by its column; ``ratio`` of the fastest of the others to the first,
        ``spread``, ``rounds`` and ``budget_s`` as of :func:`race`.
    """
    times = _alternate(runs, budget, clock)
    medians = {column: statistics.median(taken) for column, taken in times.items()}
    ours, *others = medians.values()
    return {
        **medians,
        "ratio": min(others) / ours,
        "spread": max((max(t) - min(t)) / medians[column] for column, t in times.items()),
        "rounds": len(next(iter(times.values()))),
        "budget_s": budget.seconds,
    }


def _alternate(
    runs: Mapping[str, Callable[[], object]], budget: Budget, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every call, one call of each run per round."""
    times: dict[str, list[float]] = {column: [] for column in runs}
    rounds, spent = 0, 0.0
    while budget.allows(rounds, spent):
        for column, run in runs.items():
            time.sleep(PAUSE)
            start = clock()
            run()
            times[column].append(clock() - start)
            spent += times[column][-1]
        rounds += 1
    return times
