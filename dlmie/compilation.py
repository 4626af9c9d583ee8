"""The one door to compilation: every graph of dlmie is compiled by ``dlmie.function``."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytensor
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.traversal import ancestors

from dlmie.backends.choice import current_backend, usable
from dlmie.errors import CompilerError
from dlmie.ops import rewrites
from dlmie.ops.runtime import headers, library, modules
from dlmie.ops.runtime.cache import WAITING, cache_folder, heal
from dlmie.ops.runtime.kernel_op import kernels_ready, use_kernels
from dlmie.ops.runtime.library import get_threads as get_threads
from dlmie.ops.runtime.library import set_threads as set_threads
from dlmie.verbosity import announcing

# PyTensor's configuration is process-global: one compilation at a time holds our settings.
_compiling = threading.RLock()

_MAX_HEALED = 100  # modules of one graph
_PATIENCE = 2.0  # seconds


def function(
    inputs: Sequence[Any],
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    *,
    name: str | None = None,
    profile: bool = False,
    progress: bool = False,
    kernels: bool | None = None,
    fixed: bool = False,
    backend: str | None = None,
) -> Any:
    """Compile symbolic expressions to a callable that runs C code, or JAX's.

    Parameters
    ----------
    inputs, outputs, givens
        As for ``pytensor.function``.
    updates : dict or list of pairs
        New values of shared variables.  The updates that sources of randomness in the graph carry
        with them (``variable.tag.update``) are added: no mask of dropout is ever used twice.
    name : str, optional
        Shown by the progress line and by profiles.
    profile : bool
        Collect PyTensor's profile (``result.profile.summary()``).
    progress : bool
        Write one line to standard error while compiling: what, and for how long. Commands report
        whatever takes longer than two seconds.
    kernels : bool, optional
        Whether operations run their C kernels (default: yes, unless ``DLMIE_KERNELS=0``) or the
        plain NumPy definitions, which are the oracle of the tests.
    fixed : bool
        Shared variables will not change any more, or changes may go unseen: large matrices whose
        numbers are all of half precision, as the weights of a float16 file, are then kept so.
        Products of a few rows take less time, with the same results; those of many rows are summed
        in another order.  1×1 filters of networks for phones are put into the order of the inner
        loop once: one image of 224 × 224 pixels takes a tenth less time, with the same results.
    backend : str, optional
        "c" or "jax"; default: that of the process, see :func:`dlmie.use_backend`.  With JAX the
        shared variables of the graph move to its device, XLA compiles anew for each combination of
        shapes that the function is called with, and ``profile``, ``kernels`` and ``fixed`` have no
        effect.

    Raises
    ------
    CompilerError
        No C compiler where one is needed; the message says how to install one.
    DlmieError
        There is no such backend, or no JAX.
    """
    pairs, given = _as_pairs(updates), _as_pairs(givens)
    pairs = _with_carried(pairs, outputs, given)
    name = name or "graph"
    line = partial(_progress_line, name, progress or announcing.get(), asked=progress)
    if (usable(backend) if backend else current_backend()) == "jax":
        from dlmie.backends.jax.functions import compile_graph

        with _compiling:
            return compile_graph(list(inputs), outputs, pairs, given, name=name, announce=line)
    need_compiler()
    cache_folder()
    if kernels is None:
        kernels = os.environ.get("DLMIE_KERNELS", "1") != "0"
    tags = [rewrites.TAG, *([rewrites.FIXED] if fixed else [])]
    include = ["fast_run", *(tags if kernels else [])]
    mode = Mode(modules.Linker(use_cloop=True), RewriteDatabaseQuery(include=include))
    token = use_kernels.set(kernels)
    try:
        with _compiling, line():
            kernels_ready()  # waits for whoever is building them, with a word about it
            return _patiently(
                pytensor.function,
                list(inputs),
                outputs,
                updates=pairs,
                givens=given,
                mode=mode,
                name=name,
                profile=profile or None,
            )
    finally:
        use_kernels.reset(token)


def need_compiler() -> None:
    """Raise CompilerError where nothing can be compiled: at once, not after a long preparation."""
    if not pytensor.config.cxx:
        raise CompilerError(library.NO_COMPILER)


def _patiently(compile: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Compile; where others hold PyTensor's lock for longer than it waits, wait on."""
    from filelock import Timeout
    from pytensor.link.c.exceptions import CompileError

    healed = 0
    while True:
        try:
            with _settings():
                return compile(*arguments, **options)
        except (ImportError, FileNotFoundError) as error:
            healed += 1 if isinstance(error, ImportError) else _MAX_HEALED // 5
            if healed > _MAX_HEALED or not heal(error):
                raise
        except Timeout:  # what was compiled so far is in the cache: again is not from the start
            sys.stderr.write(WAITING.format(pytensor.config.compiledir))
        except CompileError:
            if not headers.in_use():
                raise
            headers.give_up()


def _as_pairs(updates: Any) -> list[tuple[Any, Any]]:
    return list(updates.items() if isinstance(updates, Mapping) else updates or ())


def _with_carried(
    pairs: list[tuple[Any, Any]], outputs: Any, givens: list[tuple[Any, Any]]
) -> list[tuple[Any, Any]]:
    """The updates, and those that shared variables in the graph bring along."""
    listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    used = [*listed, *(new for _, new in [*pairs, *givens])]
    roots = [v for v in used if isinstance(v, Variable)]
    given = {variable for variable, _ in pairs}
    carried = [
        (v, v.tag.update) for v in ancestors(roots) if hasattr(v.tag, "update") and v not in given
    ]
    return [*pairs, *dict(carried).items()]


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """What dlmie needs of PyTensor, held only while it compiles."""
    with warnings.catch_warnings():
        # Kernels carry their own BLAS: PyTensor's advice about a missing one does not apply.
        warnings.filterwarnings("ignore", message="PyTensor could not link to a BLAS")
        # Compiled once and shared with functions that are not dlmie's: with PyTensor's flags.
        import pytensor.link.c.cutils
        import pytensor.link.c.cvm

        with pytensor.config.change_flags(on_opt_error="raise", gcc__cxxflags=headers.flags()):
            yield


@contextlib.contextmanager
def _progress_line(name: str, wanted: bool, *, asked: bool = True) -> Iterator[None]:
    """``compiling NAME … 12 s``, rewritten once a second on a terminal.

    Unless it was asked for, only what takes longer than ``_PATIENCE`` seconds is announced.
    """
    if not wanted:
        yield
        return
    start, done = time.monotonic(), threading.Event()
    live = sys.stderr.isatty()
    patience = 0.0 if asked else _PATIENCE

    def tick() -> None:
        if done.wait(patience):
            return
        if not live and not asked:
            sys.stderr.write(f"compiling {name} (once: later runs start at once)\n")
        while live and not done.wait(1.0):
            sys.stderr.write(f"\rcompiling {name} … {time.monotonic() - start:.0f} s")
            sys.stderr.flush()

    ticker = threading.Thread(target=tick, daemon=True)
    if live or not asked:
        ticker.start()
    try:
        yield
    finally:
        done.set()
        if ticker.is_alive():
            ticker.join()
        seconds = time.monotonic() - start
        if seconds >= patience:
            carriage = "\r" if live else ""
            sys.stderr.write(f"{carriage}compiled {name} in {seconds:.1f} s\n")
