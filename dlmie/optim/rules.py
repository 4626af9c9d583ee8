"""Rules that turn gradients into steps, and the base of everything an optimizer is a chain of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.ops.optimizers.updates import adam_step, momentum_step, rmsprop_step
from dlmie.optim.schedules import Schedule, as_schedule, as_spec, require

# State by name below the transform's own: "m/decoder/lstm/W".
State = dict[str, Any]
Pairs = list[tuple[Any, Variable]]


class Moment(NamedTuple):
    """What a transform may know of the time of an update; both are symbolic scalars."""

    count: Variable  # int64: how many updates were done before this one
    learning_rate: Variable


@dataclass(frozen=True)
class Transform:
    """One link of an optimizer: gradients, or steps, in and out.

    ``place`` says where in a chain it makes sense; ``name`` is its name in ``config.json`` and in
    checkpoints.
    """

    name: ClassVar[str]
    place: ClassVar[Literal["anywhere", "before", "rule", "after", "last"]] = "anywhere"

    def init(self, params: Sequence[Any]) -> State:
        """Shared variables by name that the transform keeps from update to update."""
        return {}

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        """The transformed gradients, one per parameter, and new values of the state."""
        raise NotImplementedError

    def updates(self, loss: Variable, params: Sequence[Any]) -> Any:
        """As :meth:`dlmie.optim.Chain.updates`, for a chain of this alone."""
        from dlmie.optim import chain

        return chain(self).updates(loss, params)

    def to_json(self) -> dict[str, Any]:
        """A plain dict of its name and options."""
        return as_spec(self, "transform")


def zeros_like(kind: str, params: Sequence[Any]) -> State:
    """Zeros like each parameter, named ``kind`` + the parameter's name."""
    result = {}
    for p in params:
        zero = np.zeros_like(p.get_value(borrow=True))
        result[kind + p.name] = pytensor.shared(zero, shape=p.type.shape)
    return result


def like(variable: Any, value: float) -> Any:
    """A literal in the dtype of a variable: a plain one would turn float32 into float64."""
    return np.dtype(variable.type.dtype).type(value)


@dataclass(frozen=True)
class Rule(Transform):
    """A rule moves each parameter by itself, from its gradient and its slots.

    A subclass names its ``slots`` and states the paper's equations in :meth:`move`.
    """

    place = "rule"
    slots: ClassVar[tuple[str, ...]] = ()
    learning_rate: float | Schedule = 1e-3

    def __post_init__(self) -> None:
        as_schedule(self.learning_rate)
        for option in ("momentum", "decay", "beta1", "beta2"):
            value = getattr(self, option, 0)
            require(0 <= value < 1, f"{self.name}: {option}={value} must be in [0, 1)")
        epsilon = getattr(self, "epsilon", 0)
        require(epsilon >= 0, f"{self.name}: epsilon={epsilon} must not be negative")

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        """What is added to the parameter, and the new value of each slot.

        ``g`` is its gradient, ``rate`` the learning rate and ``t`` the number of updates with this
        one, both in the parameter's dtype.
        """
        raise NotImplementedError

    def init(self, params: Sequence[Any]) -> State:
        return {k: v for kind in self.slots for k, v in zeros_like(kind, params).items()}

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        steps: list[Any] = []
        pairs: Pairs = []
        for g, p in zip(gradients, params, strict=True):
            own = [state[kind + p.name] for kind in self.slots]
            rate = moment.learning_rate.astype(p.type.dtype)
            t = (moment.count + 1).astype(p.type.dtype)
            step, *new = self.move(g, rate, t, *own)
            steps.append(step)
            pairs += zip(own, new, strict=True)
        return steps, pairs


@dataclass(frozen=True)
class Sgd(Rule):
    """Gradient descent: ``θ ← θ - ε g`` (Robbins & Monro 1951)."""

    name = "sgd"

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        return (-rate * g,)


@dataclass(frozen=True)
class Momentum(Rule):
    """``v ← μ v - ε g``, ``θ ← θ + v`` (Polyak 1964; Sutskever et al. 2013, eq. 1-2)."""

    name, slots = "momentum", ("v",)
    _: KW_ONLY
    momentum: float = 0.9

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        (v,) = slots
        return momentum_step(g, v, rate, momentum=self.momentum)


@dataclass(frozen=True)
class Nesterov(Rule):
    """``v ← μ v - ε g``, ``θ ← θ + μ v - ε g``.

    Nesterov's accelerated gradient with θ standing at the point that looks ahead (Sutskever et al.
    2013, eq. 3-4; Bengio et al. 2013, eq. 7).
    """

    name, slots = "nesterov", ("v",)
    _: KW_ONLY
    momentum: float = 0.9

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        (v,) = slots
        mu = like(v, self.momentum)
        v = mu * v - rate * g
        return mu * v - rate * g, v


@dataclass(frozen=True)
class Adagrad(Rule):
    """``s ← s + g²``, ``θ ← θ - ε g / (√s + δ)`` (Duchi et al. 2011)."""

    name, slots = "adagrad", ("s",)
    learning_rate: float | Schedule = 1e-2
    _: KW_ONLY
    epsilon: float = 1e-10

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        (s,) = slots
        s = s + pt.sqr(g)
        return -rate * g / (pt.sqrt(s) + like(s, self.epsilon)), s


@dataclass(frozen=True)
class Adadelta(Rule):
    """Steps in the units of the parameter (Zeiler 2012, algorithm 1).

    ``s ← ρ s + (1-ρ) g²``, ``Δ = -√(d + δ) / √(s + δ) g``, ``d ← ρ d + (1-ρ) Δ²``,
    ``θ ← θ + ε Δ``; the paper has ε = 1.
    """

    name, slots = "adadelta", ("s", "d")
    learning_rate: float | Schedule = 1.0
    _: KW_ONLY
    decay: float = 0.95
    epsilon: float = 1e-6

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        s, d = slots
        rho, rest, epsilon = (like(s, x) for x in (self.decay, 1 - self.decay, self.epsilon))
        s = rho * s + rest * pt.sqr(g)
        delta = -pt.sqrt(d + epsilon) / pt.sqrt(s + epsilon) * g
        return rate * delta, s, rho * d + rest * pt.sqr(delta)


@dataclass(frozen=True)
class RmsProp(Rule):
    """``s ← ρ s + (1-ρ) g²``, ``θ ← θ - ε g / (√s + δ)`` (Tieleman & Hinton 2012)."""

    name, slots = "rmsprop", ("s",)
    _: KW_ONLY
    decay: float = 0.99
    epsilon: float = 1e-8

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        (s,) = slots
        return rmsprop_step(g, s, rate, decay=self.decay, epsilon=self.epsilon)


@dataclass(frozen=True)
class GravesRmsProp(Rule):
    """RMSProp by the gradient's standard deviation, with momentum (Graves 2013, eq. 38-41).

    ``s ← ρ s + (1-ρ) g²``, ``a ← ρ a + (1-ρ) g``, ``v ← μ v - ε g / √(s - a² + δ)``, ``θ ← θ + v``.
    """

    name, slots = "graves_rmsprop", ("s", "a", "v")
    learning_rate: float | Schedule = 1e-4
    _: KW_ONLY
    decay: float = 0.95
    momentum: float = 0.9
    epsilon: float = 1e-4

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        s, a, v = slots
        rho, rest = like(s, self.decay), like(s, 1 - self.decay)
        s = rho * s + rest * pt.sqr(g)
        a = rho * a + rest * g
        # Never negative but for rounding, which large and steady gradients make larger than δ.
        variance = pt.maximum(s - pt.sqr(a), like(v, 0))
        v = like(v, self.momentum) * v - rate * g / pt.sqrt(variance + like(v, self.epsilon))
        return v, s, a, v


@dataclass(frozen=True)
class Adam(Rule):
    """Adaptive moments with bias correction (Kingma & Ba 2015, algorithm 1).

    ``m ← β₁ m + (1-β₁) g``, ``v ← β₂ v + (1-β₂) g²``,
    ``θ ← θ - ε m / (1-β₁ᵗ) / (√(v / (1-β₂ᵗ)) + δ)``.
    """

    name, slots = "adam", ("m", "v")
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def move(self, g: Any, rate: Any, t: Any, *slots: Any) -> tuple[Any, ...]:
        m, v = slots
        return adam_step(g, m, v, rate, t, beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon)


sgd, momentum, nesterov, adagrad, adadelta = Sgd, Momentum, Nesterov, Adagrad, Adadelta
rmsprop, graves_rmsprop, adam = RmsProp, GravesRmsProp, Adam

RULES: tuple[type[Rule], ...] = (
    *(Sgd, Momentum, Nesterov, Adagrad, Adadelta, RmsProp, GravesRmsProp, Adam),
)
