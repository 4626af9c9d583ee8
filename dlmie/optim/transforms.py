"""Transforms before and after the rule: clipping, decay, factors by parameter, averaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import Any

import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.optim.rules import Moment, Pairs, State, Transform, like
from dlmie.optim.schedules import require
from dlmie.text import suggest

Where = str | Sequence[str]


def named(params: Sequence[Any], where: Where) -> set[str]:
    """Names of the parameters below a path (``/encoder``) or that fit a pattern (``*/W``).

    Raises
    ------
    OptimizerError
        Nothing fits: silently training everything alike would be worse.
    """
    chosen = set()
    for pattern in [where] if isinstance(where, str) else where:
        path = pattern.rstrip("/")
        found = {p.name for p in params if fnmatchcase(p.name, path) or _below(p.name, path)}
        groups = sorted({p.name.rpartition("/")[0] for p in params})
        require(bool(found), f"no trained parameter is named {pattern!r}{suggest(path, groups)}")
        chosen |= found
    return chosen


def _below(name: str, path: str) -> bool:
    return fnmatchcase(name, path + "/*")


def global_norm(gradients: Sequence[Any]) -> Variable:
    """Euclidean length of all gradients together."""
    squares = [pt.sum(pt.sqr(g)) for g in gradients]
    total = squares[0]
    for square in squares[1:]:
        total = total + square
    return pt.sqrt(total)


@dataclass(frozen=True)
class _Clip(Transform):
    threshold: float

    def __post_init__(self) -> None:
        require(self.threshold > 0, f"{self.name}: threshold={self.threshold} must be positive")


@dataclass(frozen=True)
class ClipValue(_Clip):
    """Clip each element to ``[-threshold, threshold]``."""

    name = "clip_value"

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        limit = self.threshold
        return [pt.clip(g, like(g, -limit), like(g, limit)) for g in gradients], []


@dataclass(frozen=True)
class ClipNorm(_Clip):
    """Shorten the gradient of all parameters together to ``threshold`` (Pascanu et al. 2013)."""

    name = "clip_norm"

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        norm = global_norm(gradients)
        threshold = like(norm, self.threshold)
        factor = threshold / pt.maximum(norm, threshold)
        return [g * factor.astype(g.type.dtype) for g in gradients], []


@dataclass(frozen=True)
class Scale(Transform):
    """Multiply by a factor: before the rule the gradient, after it the step."""

    name = "scale"
    factor: float

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        return [g * like(g, self.factor) for g in gradients], []


@dataclass(frozen=True)
class ScaleWhere(Transform):
    """Multiply the learning rate of some parameters, for instance of a pretrained encoder.

    Parameters
    ----------
    where : str or sequence of str
        Paths (``"/encoder"``) or patterns (``"*/b"``) of parameter names.
    factor : float
        0 freezes them.
    """

    name = "scale_where"
    place = "after"  # before Adam a factor would cancel: its steps do not depend on scale
    where: Where
    factor: float

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        chosen = named(params, self.where)
        scaled = [
            g * like(g, self.factor) if p.name in chosen else g
            for g, p in zip(gradients, params, strict=True)
        ]
        return scaled, []


@dataclass(frozen=True)
class WeightDecay(Transform):
    """Pull weights toward 0.

    Coupled (before the rule): the gradient of ``½ rate Σθ²`` is added.  Decoupled (after the rule):
    ``θ`` shrinks by ``learning_rate · rate · θ``, whatever the rule makes of gradients (Loshchilov
    & Hutter 2019).

    Parameters
    ----------
    rate : float
    decoupled : bool
    where : str or sequence of str, optional
        Paths or patterns of parameter names; default: those with the role "regularizable", as
        weight matrices and filters have, and variables without roles.
    """

    name = "weight_decay"
    rate: float
    _: KW_ONLY
    decoupled: bool = False
    where: Where | None = None

    def __post_init__(self) -> None:
        require(self.rate >= 0, f"{self.name}: rate={self.rate} must not be negative")

    @property
    def place(self) -> str:  # type: ignore[override]
        return "after" if self.decoupled else "before"

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        if self.where is None:
            own_role = {"regularizable"}
            chosen = {p.name for p in params if own_role & set(getattr(p, "roles", own_role))}
        else:
            chosen = named(params, self.where)
        result = []
        for g, p in zip(gradients, params, strict=True):
            if p.name in chosen:
                pull = like(p, self.rate) * p
                g = (
                    g - moment.learning_rate.astype(p.type.dtype) * pull
                    if self.decoupled
                    else g + pull
                )
            result.append(g)
        return result, []


@dataclass(frozen=True)
class Ema(Transform):
    """Keep an exponential moving average of the parameters (Polyak & Juditsky 1992).

    ``a ← d a + (1-d) θ`` with ``d = min(decay, (1+t) / (10+t))``, so that the first values are soon
    forgotten; with ``warmup=False``, d = decay.  The parameters train as without it; the average is
    read from ``updates.averages``.
    """

    name = "ema"
    place = "last"  # it must see the steps as they are taken
    decay: float = 0.999
    _: KW_ONLY
    warmup: bool = True

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, f"{self.name}: decay={self.decay} must be in [0, 1)")

    def init(self, params: Sequence[Any]) -> State:
        return {
            "average" + p.name: pytensor.shared(p.get_value(), shape=p.type.shape) for p in params
        }

    def update(
        self, gradients: list[Any], params: Sequence[Any], state: State, moment: Moment
    ) -> tuple[list[Any], Pairs]:
        pairs: Pairs = []
        for step, p in zip(gradients, params, strict=True):
            average, t = state["average" + p.name], moment.count.astype(p.type.dtype)
            one, decay = like(p, 1), like(p, self.decay)
            if self.warmup:
                decay = pt.minimum(decay, (one + t) / (like(p, 10) + t))
            pairs.append((average, average + (one - decay) * (p + step - average)))
        return gradients, pairs


clip_value, clip_norm, scale = ClipValue, ClipNorm, Scale
scale_where, weight_decay, ema = ScaleWhere, WeightDecay, Ema

TRANSFORMS: tuple[type[Transform], ...] = (
    *(ClipValue, ClipNorm, Scale, ScaleWhere, WeightDecay, Ema),
)
