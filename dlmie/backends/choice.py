"""The backend of this process, chosen once before anything is compiled."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from dlmie.errors import DlmieError, MisuseError
from dlmie.launchers import launched

BACKENDS = ("c", "jax")

_chosen = "c"


def use_backend(name: str) -> None:
    """Compile all functions of this process for a backend, from now on.

    Call it before models are made and functions compiled: a function of one backend cannot read
    shared variables that a function of the other has changed.

    Parameters
    ----------
    name : str
        "c", dlmie's kernels on processors, or "jax": see ``docs/gpu.md``.

    Raises
    ------
    DlmieError
        JAX is not installed.
    MisuseError
        There is no such backend, or several ranks of MPI would use JAX.
    """
    global _chosen
    _chosen = usable(name)


def current_backend() -> str:
    """The name of the backend of this process."""
    return _chosen


def usable(name: str) -> str:
    """The name of a backend, once it is known that it can be used here.

    Raises
    ------
    DlmieError, MisuseError
        As :func:`use_backend`.
    """
    if name not in BACKENDS:
        raise MisuseError(f"there is no backend {name!r}: use {' or '.join(BACKENDS)}")
    if name == "jax":
        if find_spec("jax") is None:
            raise DlmieError(
                f"the backend jax needs JAX: {sys.executable} -m pip install 'dlmie[gpu]'"
            )
        if launched()[0] > 1:
            raise MisuseError("the backend jax runs in one process: start it without mpiexec")
    return name


def refuse_jax(what: str) -> None:
    """Say that something works on the C backend only.

    Raises
    ------
    MisuseError
        JAX is the backend of this process.
    """
    if _chosen == "jax":
        raise MisuseError(f"{what} works on the C backend only: leave out --backend jax")


def length_step() -> int:
    """Captions are padded to multiples of so many words.

    XLA compiles for each length that it meets: with steps of 4 these are a handful.
    """
    return 4 if _chosen == "jax" else 1


@contextlib.contextmanager
def using_backend(name: str) -> Iterator[None]:
    """Use a backend in the block, and then the one that was chosen before."""
    before = _chosen
    use_backend(name)
    try:
        yield
    finally:
        use_backend(before)
