"""PyTensor's linker to JAX with what dlmie's graphs need: known shapes, dtypes, donated memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import numpy as np
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.link.jax.linker import JAXLinker
from pytensor.link.utils import fgraph_to_python

from dlmie.backends.jax.nodes import constant_value, node_function

Announce = Callable[[], AbstractContextManager[None]]


class Linker(JAXLinker):
    """One function of JAX for a graph.

    Parameters
    ----------
    announce : callable
        Makes the context in which XLA compiles: for every new combination of shapes.
    """

    def __init__(self, announce: Announce) -> None:
        super().__init__()
        self.announce = announce

    def fgraph_convert(
        self,
        fgraph: FunctionGraph,
        input_storage: Any,
        storage_map: dict[Variable, list[Any]],
        **_: Any,
    ) -> Callable[..., Sequence[jax.Array]]:
        """The graph as a Python function; called by PyTensor."""
        self.updates: dict[int, int] = fgraph.update_mapping or {}  # output → input
        converted: Callable[..., Sequence[jax.Array]] = fgraph_to_python(
            fgraph,
            node_function,
            type_conversion_fn=constant_value,
            fgraph_name="dlmie_graph",
            storage_map=storage_map,
        )
        return converted

    def jit_compile(
        self, fn: Callable[..., Sequence[jax.Array]]
    ) -> Callable[..., list[jax.Array | np.ndarray]]:
        """Compile; called by PyTensor.

        The memory of what is updated goes to its new value, which stays on the device.  Other
        outputs become NumPy arrays.
        """
        compiled = jax.jit(fn, donate_argnums=tuple(sorted(set(self.updates.values()))))
        updated, announce = set(self.updates), self.announce
        known: set[tuple[tuple[int, ...], ...]] = set()

        def run(*inputs: jax.Array | np.ndarray) -> list[jax.Array | np.ndarray]:
            shapes = tuple(np.shape(x) for x in inputs)
            try:
                if shapes in known:
                    outputs = compiled(*inputs)
                else:
                    with announce():
                        outputs = compiled(*inputs)
                    known.add(shapes)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" in str(error):
                    raise MemoryError(str(error)) from error
                raise
            return [x if i in updated else np.array(x) for i, x in enumerate(outputs)]

        return run
