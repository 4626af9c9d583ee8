"""Optimizers' rules in one pass over memory; kernels in ``optimizers.c``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.inplace import Overwriting
from dlmie.ops.runtime.kernel_op import bits

KINDS = ("momentum", "rmsprop", "adam")


def _correction(beta: float, t: np.ndarray) -> float:
    """``1 - βᵗ`` to the last digit."""
    return 1.0 if beta == 0 else -math.expm1(float(t) * math.log(beta))


class Rule(Overwriting):
    """([x, ]g, slot..., rate, t) → the step, or x + step if the rule ``adds``; the new slots."""

    kernel = "rule"
    __props__ = ("kind", "constants", "adds", "overwrites")

    def __init__(
        self,
        kind: str,
        constants: tuple[float, float, float],
        adds: bool = False,
        overwrites: int | None = None,
    ) -> None:
        self.kind, self.constants, self.adds = kind, constants, adds
        self.slots = 2 if kind == "adam" else 1
        # All in place, or where someone else needs the gradient, only the slots.
        slots = {i: adds + i for i in range(1, self.slots + 1)}
        self.overwritable = ({0: 0, **slots}, slots)
        super().__init__(overwrites)

    def parameters(self) -> Sequence[int]:
        return KINDS.index(self.kind), self.adds, *bits(*self.constants)

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        arrays = [inputs[0], *inputs[1 + self.adds : 1 + self.adds + self.slots]]
        return [TensorType(v.type.dtype, shape=v.type.shape) for v in arrays]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [shapes[0]] * (1 + self.slots)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        base = inputs[0] if self.adds else 0
        g, *slots = inputs[self.adds : -2]
        rate, t = inputs[-2:]
        a, b, epsilon = self.constants
        if self.kind == "momentum":
            slots = [a * slots[0] - rate * g]
            step = slots[0]
        elif self.kind == "rmsprop":
            slots = [a * slots[0] + (1 - a) * g**2]
            step = -rate * g / (np.sqrt(slots[0]) + epsilon)
        else:
            slots = [a * slots[0] + (1 - a) * g, b * slots[1] + (1 - b) * g**2]
            mean, square = (s / _correction(b, t) for s, b in zip(slots, (a, b), strict=True))
            step = -rate * mean / (np.sqrt(square) + epsilon)
        for storage, value in zip(outputs, (base + step, *slots), strict=True):
            storage[0] = np.asarray(value, dtype=g.dtype)


def _apply(rule: Rule, arrays: Sequence[Any], rate: Any, t: Any) -> tuple[Variable, ...]:
    arrays = [pt.as_tensor_variable(a) for a in arrays]
    dtype = arrays[0].type.dtype
    scalars = [pt.cast(pt.as_tensor_variable(s), dtype) for s in (rate, t)]
    return tuple(rule(*arrays, *scalars))


def momentum_step(g: Any, v: Any, rate: Any, *, momentum: float) -> tuple[Variable, ...]:
    """``v ← μ v - rate g``; the step is v (Polyak 1964).

    Parameters
    ----------
    g, v : of one shape
        Gradient and velocity.
    rate : scalar
    momentum : float

    Returns
    -------
    (step, v)
    """
    return _apply(Rule("momentum", (momentum, 0.0, 0.0)), [g, v], rate, 1)


def rmsprop_step(
    g: Any, s: Any, rate: Any, *, decay: float, epsilon: float
) -> tuple[Variable, ...]:
    """``s ← ρ s + (1-ρ) g²``; the step is ``-rate g / (√s + ε)`` (Tieleman & Hinton 2012).

    Parameters
    ----------
    g, s : of one shape
        Gradient and mean square.
    rate : scalar
    decay, epsilon : float

    Returns
    -------
    (step, s)
    """
    return _apply(Rule("rmsprop", (decay, 0.0, epsilon)), [g, s], rate, 1)


def adam_step(
    g: Any, m: Any, v: Any, rate: Any, t: Any, *, beta1: float, beta2: float, epsilon: float
) -> tuple[Variable, ...]:
    """Adaptive moments with bias correction (Kingma & Ba 2015, algorithm 1).

    ``m ← β₁ m + (1-β₁) g``, ``v ← β₂ v + (1-β₂) g²``; the step is
    ``-rate m / (1-β₁ᵗ) / (√(v / (1-β₂ᵗ)) + ε)``.

    Where the compiled graph adds the step to the parameter, all happens in one pass over memory.

    Parameters
    ----------
    g, m, v : of one shape
        Gradient, and the means of it and of its square.
    rate, t : scalars
        Learning rate, and the number of updates with this one.
    beta1, beta2, epsilon : float

    Returns
    -------
    (step, m, v)
    """
    return _apply(Rule("adam", (beta1, beta2, epsilon)), [g, m, v], rate, t)


def adam_update(
    p: Any, m: Any, v: Any, g: Any, rate: Any, t: Any, *, beta1: float, beta2: float, epsilon: float
) -> tuple[Variable, ...]:
    """``(p + step, m, v)`` of :func:`adam_step`."""
    return _apply(Rule("adam", (beta1, beta2, epsilon), adds=True), [p, g, m, v], rate, t)
