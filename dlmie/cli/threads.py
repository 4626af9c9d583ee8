"""How many processor threads a command uses."""

from __future__ import annotations

import os
import sys

#: Read by OpenMP and the BLAS when they are loaded.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(threads: int) -> None:
    """Use so many threads from now on, in libraries that are loaded already, too."""
    for name in VARIABLES:
        os.environ[name] = str(threads)
    if "dlmie.compilation" in sys.modules:  # a second command in one process
        from dlmie.compilation import set_threads

        set_threads(threads)
