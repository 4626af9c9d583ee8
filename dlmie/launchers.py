"""Whether a launcher such as ``mpiexec`` started this process among others; no MPI is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: How launchers say the number of processes, and which of them this is: MPICH and Intel MPI,
#: Open MPI, MVAPICH, Slurm's srun.
_LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """How many processes a launcher says that it started, and which of them this is."""
    for size, rank in _LAUNCHERS:
        if environment.get(size, "").isdigit():
            return int(environment[size]), int(environment.get(rank, "0"))
    return 1, 0
