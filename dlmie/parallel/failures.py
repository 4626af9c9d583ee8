"""The end of a parallel program: a rank that fails ends all, and the error is printed once."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from dlmie.parallel.ranks import Ranks, world

_PATIENCE = 1.0  # seconds that a failing rank waits for others to fail as well


@contextlib.contextmanager
def together(
    ranks: Ranks | None = None,
    *,
    show: Callable[[BaseException], object] | None = None,
) -> Iterator[None]:
    """End all ranks where one fails in the block; without, the others would wait for it forever.

    Where all of them fail, which they do in the same way, rank 0 prints the error and all end as
    they would alone.  Where others go on, the one that failed prints its error, then aborts the
    program.

    Parameters
    ----------
    ranks : Ranks, optional
        By default those of :func:`world`.
    show : callable
        Prints an error; by default as Python does.

    Raises
    ------
    SystemExit
        With the code of the error: its ``exit_code``, else 1.

    Examples
    --------
    In a script of your own, which ``mpiexec -n 2 python train.py`` starts::

        with dlmie.parallel.together():
            dlmie.train(step, "flickr8k.h5", to="runs/first")
    """
    ranks = world() if ranks is None else ranks
    try:
        yield
    except BaseException as error:
        code = _exit_code(error)
        if ranks.communicator is None or code == 0:
            raise
        _end(ranks, error, code, _show if show is None else show)


def _show(error: BaseException) -> None:
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(error.code, str):
        sys.stderr.write(f"{error.code}\n")


def _exit_code(error: BaseException) -> int:
    code = getattr(error, "exit_code", None)  # of click's
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    return code if isinstance(code, int) else 1


def _end(
    ranks: Ranks, error: BaseException, code: int, show: Callable[[BaseException], object]
) -> NoReturn:
    assert ranks.communicator is not None
    all_fail = ranks.communicator.Ibarrier()
    # Rank 0 first: where several fail, but not all, its word comes before the program is aborted.
    until = time.monotonic() + _PATIENCE + 0.2 * min(ranks.rank, 5)
    alike = all_fail.Test()
    while not alike and time.monotonic() < until:
        time.sleep(0.01)
        alike = all_fail.Test()
    if not alike or ranks.is_first:
        if not alike:
            sys.stderr.write(f"rank {ranks.rank} of {ranks.size} failed, which ends the others:\n")
        show(error)
        sys.stdout.flush()
        sys.stderr.flush()
    if not alike:
        ranks.communicator.Abort(code)
    raise SystemExit(code) from None
