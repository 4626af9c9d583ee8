"""Shapes of outputs, as every supported version of PyTensor asks for them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pytensor.graph.basic import Apply
from pytensor.tensor.elemwise import Elemwise

Shapes = Sequence[Any]

# PyTensor before 3.2 hands the graph to infer_shape; later versions do not.
_WITH_GRAPH = len(inspect.signature(Elemwise.infer_shape).parameters) == 4


def infers_shape(method: Callable[[Any, Apply, Shapes], Shapes]) -> Callable[..., Shapes]:
    """Make a method ``(self, node, shapes)`` what PyTensor calls as ``infer_shape``."""
    if not _WITH_GRAPH:
        return method

    @functools.wraps(method)
    def with_graph(self: Any, fgraph: Any, node: Apply, shapes: Shapes) -> Shapes:
        return method(self, node, shapes)

    return with_graph
