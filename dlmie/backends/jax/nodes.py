"""A node of a graph as a function of JAX arrays, its shapes computed while JAX traces it.

JAX compiles a function for arrays of given shapes.  PyTensor computes shapes in the graph, like
everything else.  Both fit together if all arithmetic on shapes is done while JAX traces, in NumPy:
the shape of a traced array is known, and so is whatever follows from it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch import jax_funcify, jax_typify
from pytensor.tensor.basic import Alloc, AllocEmpty, ARange, MakeVector, Split
from pytensor.tensor.shape import Reshape, Shape, Shape_i

from dlmie.errors import DlmieError

Function = Callable[..., Any]


def node_function(op: Op, node: Apply, **options: Any) -> Function:
    """The JAX form of a node; it keeps the dtypes that PyTensor declared.

    Raises
    ------
    NotImplementedError
        The operation has no JAX form.
    """
    if type(op) in _SHAPED:
        return _SHAPED[type(op)](op)
    made: Function = jax_funcify(op, node=node, **options)
    if isinstance(op, Shape | Shape_i):
        return made
    return _known(made) if all(map(_may_be_a_shape, node.outputs)) else _typed(made, node.outputs)


def constant_value(data: Any, variable: Variable, **options: Any) -> Any:
    """A constant as JAX takes it; None for variables, whose values come with each call.

    Scalars keep their precision, which PyTensor's own conversion drops, and what may be a shape
    stays with NumPy.
    """
    if not isinstance(variable, Constant):
        return None
    if isinstance(data, np.ndarray) and data.ndim == 0:
        return data[()]
    if isinstance(data, np.ndarray) and _may_be_a_shape(variable):
        return data
    return jax_typify(data, **options)


def _may_be_a_shape(variable: Variable) -> bool:
    """Whether it is a whole number, or a vector of some."""
    of = variable.type  # of tensors and scalars
    return getattr(of, "ndim", 2) <= 1 and np.dtype(of.dtype).kind in "iub"


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _known(made: Function) -> Function:
    """Compute at once what follows from shapes alone."""

    @functools.wraps(made)
    def run(*inputs: Any) -> Any:
        if any(map(_is_traced, inputs)):
            return made(*inputs)
        with jax.ensure_compile_time_eval():
            outputs = made(*inputs)
            several = isinstance(outputs, tuple | list)
            return [np.asarray(x) for x in outputs] if several else np.asarray(outputs)

    return run


def _typed(made: Function, outputs: Sequence[Variable]) -> Function:
    """Give outputs the dtypes that PyTensor declared; JAX's rules are others."""
    dtypes = [getattr(variable.type, "dtype", None) for variable in outputs]

    def cast(value: Any, dtype: str | None) -> Any:
        differs = dtype is not None and getattr(value, "dtype", dtype) != dtype
        return value.astype(dtype) if differs else value

    @functools.wraps(made)
    def run(*inputs: Any) -> Any:
        results = made(*inputs)
        if isinstance(results, tuple | list):
            return [cast(*pair) for pair in zip(results, dtypes, strict=True)]
        return cast(results, dtypes[0])

    return run


def _sizes(numbers: Any) -> tuple[int, ...]:
    """Sizes that must be known while tracing."""
    if any(map(_is_traced, numbers if isinstance(numbers, tuple) else (numbers,))):
        raise DlmieError(
            "the backend jax must know all shapes before it computes, and one depends on values"
        )
    return tuple(int(n) for n in numbers)


def _reshape(op: Reshape) -> Function:
    return lambda x, shape: jnp.reshape(x, _sizes(shape))


def _alloc(op: Alloc) -> Function:
    return lambda value, *shape: jnp.broadcast_to(value, _sizes(shape))


def _alloc_empty(op: AllocEmpty) -> Function:
    return lambda *shape: jnp.zeros(_sizes(shape), op.dtype)


def _arange(op: ARange) -> Function:
    def run(*limits: Any) -> Any:
        if any(map(_is_traced, limits)):
            _sizes(limits)
        start, stop, step = (np.asarray(limit).item() for limit in limits)
        return np.arange(start, stop, step).astype(op.dtype)

    return run


def _make_vector(op: MakeVector) -> Function:
    def run(*numbers: Any) -> Any:
        if any(map(_is_traced, numbers)):
            return jnp.stack([jnp.asarray(number, op.dtype) for number in numbers])
        return np.array([np.asarray(number)[()] for number in numbers], op.dtype)

    return run


def _split(op: Split) -> Function:
    def run(x: Any, *inputs: Any) -> Any:
        *axis, sizes = inputs  # later versions of PyTensor keep the axis in the operation
        stops = np.cumsum(_sizes(sizes))
        return jnp.split(x, stops[:-1], axis=int(axis[0] if axis else op.axis))

    return run


# PyTensor's own forms of these want constants, or JAX's word for a shape.
_SHAPED: dict[type[Op], Callable[[Any], Function]] = {
    Reshape: _reshape,
    Alloc: _alloc,
    AllocEmpty: _alloc_empty,
    ARange: _arange,
    MakeVector: _make_vector,
    Split: _split,
}
