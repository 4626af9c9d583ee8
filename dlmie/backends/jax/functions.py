"""``dlmie.function`` on JAX."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytensor
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.rewriting.db import RewriteDatabaseQuery
from pytensor.graph.traversal import ancestors

from dlmie.backends.jax.configuration import configure
from dlmie.backends.jax.device import keep_on_device
from dlmie.backends.jax.linker import Announce, Linker
from dlmie.errors import DlmieError
from dlmie.ops.runtime.kernel_op import use_kernels

#: The families of operations with JAX forms: ``dlmie/ops/FAMILY/jax_forms.py``.
FAMILIES = (
    "attention",
    "conv",
    "dense",
    "losses",
    "normalization",
    "optimizers",
    "pool",
    "random",
    "recurrent",
)


def compile_graph(
    inputs: Sequence[Any],
    outputs: Any,
    updates: list[tuple[Any, Any]],
    givens: Sequence[tuple[Any, Any]],
    *,
    name: str | None,
    announce: Announce,
) -> Callable[..., Any]:
    """A compiled function of NumPy arrays, as ``pytensor.function``.

    XLA compiles when it is called with arrays of new shapes, in the context ``announce()``.  Shared
    variables move to the device.

    Raises
    ------
    DlmieError
        The graph holds an operation that has no JAX form.
    """
    configure()
    register_forms()
    listed = outputs if isinstance(outputs, list | tuple) else [outputs]
    roots = [*listed, *(v for pair in updates for v in pair), *(new for _, new in givens)]
    # XLA fuses elementwise operations itself.  dlmie's own rewrites make operations for C.
    query = RewriteDatabaseQuery(include=["fast_run", "jax"], exclude=["fusion"])
    with _without_compiler():
        keep_on_device(_shared(roots))
        function: Callable[..., Any] = pytensor.function(
            inputs,
            outputs,
            updates=updates,
            givens=givens,
            mode=Mode(Linker(announce), query),
            name=name,
        )
    return function


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """What is constant in a graph is computed by NumPy, while this lasts."""
    token = use_kernels.set(False)
    try:
        with (
            warnings.catch_warnings(),
            pytensor.config.change_flags(on_opt_error="raise", cxx=""),
        ):
            # Checks of shapes in the graph are left out: JAX has its own.
            warnings.filterwarnings("ignore", message="Skipping .* Op")
            yield
    except NotImplementedError as error:
        raise DlmieError(f"{error} (use the backend c)") from error
    finally:
        use_kernels.reset(token)


def register_forms() -> None:
    """Let PyTensor know the JAX form of every operation of dlmie."""
    for family in FAMILIES:
        importlib.import_module(f"dlmie.ops.{family}.jax_forms")


def _shared(roots: Sequence[Any]) -> list[SharedVariable]:
    variables = [v for v in roots if isinstance(v, Variable)]
    return [v for v in ancestors(variables) if isinstance(v, SharedVariable)]
