"""The ranks of an MPI program: who they are, and what they tell each other."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from dlmie.errors import DlmieError
from dlmie.launchers import launched
from dlmie.parallel.sums import add_pairwise

if TYPE_CHECKING:
    import numpy as np
    from mpi4py import MPI

Value = TypeVar("Value")

#: Settings of MPIs, which read them when they start; others do not know them.
SETTINGS = {
    # MPICH on one machine lets one rank add everything up while the others wait: half as fast for
    # gradients of 30 MB as what it does between machines, where each rank adds up a part.
    "MPIR_CVAR_ALLREDUCE_POSIX_INTRA_ALGORITHM": "mpir",
}


class Ranks:
    """All processes of a program, seen from one of them.

    Every method but the properties must be called by all ranks, in the same order.  Alone, each
    gives back what it is handed, and MPI is not needed.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm, optional
        Without one there is one rank.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0 on, and how many there are.
    """

    def __init__(self, communicator: MPI.Comm | None = None) -> None:
        self.communicator = communicator
        self.rank = 0 if communicator is None else communicator.Get_rank()
        self.size = 1 if communicator is None else communicator.Get_size()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone prints and writes files."""
        return self.rank == 0

    def everyone(self, value: Value) -> list[Value]:
        """The values of all ranks, by rank; they are pickled."""
        return [value] if self.communicator is None else self.communicator.allgather(value)

    def of_first(self, value: Value) -> Value:
        """Rank 0's value."""
        if self.communicator is None:
            return value
        told: Value = self.communicator.bcast(value if self.is_first else None)
        return told

    def on_first(self, call: Callable[[], Value]) -> Value:
        """What a function returns on rank 0, which alone calls it; all ranks raise its error.

        The function must not call any of these methods itself.
        """
        if self.communicator is None:
            return call()
        value: Value
        failure: Exception | None = None
        if self.is_first:
            try:
                made: Value | None = call()
            except Exception as error:
                made, failure = None, error
        value, failure = self.communicator.bcast((made, failure) if self.is_first else None)
        if failure is not None:
            raise failure
        return value

    def wait(self) -> None:
        """Go on when all ranks have come here."""
        if self.communicator is not None:
            self.communicator.Barrier()

    def agreed(self, reason: str | None) -> str | None:
        """The reason of the lowest rank that has one: all ranks do the same about it."""
        if self.communicator is None:
            return reason
        if not self.communicator.allreduce(int(reason is not None)):
            return None
        return next(told for told in self.everyone(reason) if told is not None)

    def add(self, buffer: np.ndarray) -> np.ndarray:
        """The sum of all ranks' buffers, one-dimensional, in the place of this one's.

        All ranks get the same bits; MPI chooses the order of the sum by their number.
        """
        if self.communicator is not None:
            from mpi4py import MPI

            self.communicator.Allreduce(MPI.IN_PLACE, buffer)
        return buffer

    def add_in_order(self, buffer: np.ndarray) -> np.ndarray:
        """The sum of all ranks' buffers, added pairwise by rank: see :func:`add_pairwise`."""
        import numpy as np

        if self.communicator is None:
            return buffer
        each = -(-buffer.size // self.size)  # numbers that a rank adds up
        sent = np.zeros((self.size, each), buffer.dtype)
        sent.reshape(-1)[: buffer.size] = buffer
        parts = np.empty_like(sent)
        self.communicator.Alltoall(sent, parts)
        (own,) = add_pairwise([part] for part in parts)
        self.communicator.Allgather(own, sent)
        return sent.reshape(-1)[: buffer.size]


ALONE = Ranks()


@functools.cache
def world() -> Ranks:
    """The ranks of this program; MPI is loaded only where a launcher says that there are several.

    Raises
    ------
    DlmieError
        mpi4py is missing, or is of another MPI than the launcher.
    """
    started, _ = launched()
    if started == 1:
        return ALONE
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import mpi4py

        mpi4py.rc.thread_level = "serialized"
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no libmpi
        reason = str(error).partition("\n")[0]
        raise DlmieError(
            f"started as {started} processes, but there is no MPI to talk through ({reason}): "
            "pip install 'dlmie[mpi]', and an MPI: that of your cluster, or pip install mpich"
        ) from error
    if MPI.COMM_WORLD.Get_size() != started:
        raise DlmieError(
            f"started as {started} processes, but mpi4py counts {MPI.COMM_WORLD.Get_size()}: "
            f"mpiexec and mpi4py are of different MPIs; use the mpiexec of {library()}"
        )
    return Ranks(MPI.COMM_WORLD)


def library() -> str:
    """The MPI that mpi4py found: "MPICH Version: 5.0.2"."""
    from mpi4py import MPI

    first, _, _ = MPI.Get_library_version().partition("\n")
    return " ".join(first.partition(",")[0].split())
