"""Which part of a machine's processors a rank uses."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

from dlmie.parallel.ranks import Ranks


def processors() -> frozenset[int]:
    """The processors that this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)
    return frozenset(allowed(0) if allowed else range(os.cpu_count() or 1))


def threads_of_rank(ranks: Ranks) -> int:
    """The number of processors that a rank may use, divided by the ranks that share them."""
    here, own = platform.node(), processors()
    told = ranks.everyone((here, own))
    sharing = sum(host == here and not own.isdisjoint(theirs) for host, theirs in told)
    return max(1, len(own) // sharing)


def binding_advice(ranks: Ranks, environment: Mapping[str, str] = os.environ) -> str | None:
    """What to say where Open MPI has bound ranks to one processor each, and there are more."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" not in environment:
        return None
    local = int(environment["OMPI_COMM_WORLD_LOCAL_SIZE"])
    bound = len(processors()) == 1 and (os.cpu_count() or 1) > local
    if not any(ranks.everyone(bound)):
        return None
    return (
        "Open MPI has bound each rank to one processor: to use all, start with mpiexec --bind-to "
        "none, or for four threads per rank with --map-by slot:PE=4"
    )
