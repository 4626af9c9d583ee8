"""How the JAX form of an operation is registered; imported only where JAX is the backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from pytensor.graph.op import Op
from pytensor.link.jax.dispatch import jax_funcify

#: What an operation computes, of JAX arrays: inputs → the output, or the outputs.
Form = Callable[..., jax.Array | tuple[jax.Array, ...]]

_Op = TypeVar("_Op", bound=Op)


def jax_form(kind: type[_Op]) -> Callable[[Callable[[_Op], Form]], Callable[[_Op], Form]]:
    """Register a function ``operation -> Form`` as what makes the JAX form of operations of a kind.

    Shapes are known where a form is called, values are not: what depends on values, such as a check
    of ids, cannot be part of it.
    """

    def register(make: Callable[[_Op], Form]) -> Callable[[_Op], Form]:
        @jax_funcify.register(kind)
        def funcify(op: _Op, **_: Any) -> Form:
            return make(op)

        return make

    return register


def transpose(linear: Callable[[jax.Array], jax.Array], at: jax.Array, g: jax.Array) -> jax.Array:
    """The transpose of a linear function, applied to g: the gradient of its input ``at``."""
    (gradient,) = jax.linear_transpose(linear, at)(g)
    return gradient
