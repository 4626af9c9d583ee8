"""Time dlmie and PyTorch alternately: what else the machine does falls on both alike."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.limits import Work

COLUMNS = ("dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s")


@contextlib.contextmanager
def using_threads(threads: int | None = None) -> Iterator[None]:
    """So many threads for dlmie and for PyTorch; None: as many as dlmie has."""
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


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def race(
    name: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    channels_last: Callable[[], Any] | None = None,
    compiled: Callable[[], Any] | None = None,
    goal: float | None = None,
    work: Work | None = None,
    rounds: int = 7,
    warmup: int = 2,
) -> dict[str, Any]:
    """Medians over alternate calls, as a row of the benchmark table.

    Parameters
    ----------
    ours, theirs, channels_last, compiled
        The same work by dlmie, by PyTorch, and by PyTorch in other ways.
    goal : float, optional
        The ratio to reach.
    work : Work, optional
        The least that must be done; gives ``limit_s`` and ``limited_by``.

    Returns
    -------
    dict
        ``name``, ``dlmie_s``, ``torch_eager_s``, ``torch_channels_last_s``, ``torch_compile_s``
        (None where not run), ``ratio`` against the fastest of PyTorch (above 1: dlmie is faster),
        ``goal`` and ``spread``, the widest of all ranges as a share of its median; the limit.
    """
    entered = zip(COLUMNS, (ours, theirs, channels_last, compiled), strict=True)
    runs = {column: run for column, run in entered if run is not None}
    for _ in range(warmup):
        for run in runs.values():
            run()
    times: dict[str, list[float]] = {column: [] for column in runs}
    for _ in range(rounds):
        for column, run in runs.items():
            times[column].append(seconds(run))
    medians = {column: statistics.median(taken) for column, taken in times.items()}
    fastest = min(median for column, median in medians.items() if column != COLUMNS[0])
    spread = max((max(taken) - min(taken)) / medians[column] for column, taken in times.items())
    return {
        "name": name,
        **{column: medians.get(column) for column in COLUMNS},
        "ratio": fastest / medians[COLUMNS[0]],
        "goal": goal,
        "spread": spread,
        **({} if work is None else work.limit()),
    }
