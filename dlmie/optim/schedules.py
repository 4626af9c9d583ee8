"""Learning rates as functions of the number of updates done.

A schedule is a peak value, kept in a shared variable so that it can be read and set while a run is
resumed, times a share of it that follows from the step counter.  The share has one definition that
serves NumPy (to read, to plot) and PyTensor (inside the compiled step: nothing recompiles).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from dlmie.errors import DlmieError
from dlmie.text import suggest


class OptimizerError(DlmieError, ValueError):
    """An optimizer or schedule is misspelled, out of range, or does not fit the parameters."""


def require(condition: bool, message: str) -> None:
    """Raise an :class:`OptimizerError` unless the condition holds."""
    if not condition:
        raise OptimizerError(message)


@dataclass(frozen=True)
class Schedule:
    """A learning rate that changes with the step; ``schedule(step)`` reads it.

    Parameters
    ----------
    value : float
        The peak learning rate.

    Examples
    --------
    >>> from dlmie import optim
    >>> optim.cosine(4e-4, 20_000)(10_000)
    0.0002
    """

    name: ClassVar[str]
    value: Any

    def __post_init__(self) -> None:
        valid = isinstance(self.value, int | float) and 0 <= self.value < math.inf
        require(valid, f"{self.name}: a learning rate is a number ≥ 0, not {self.value!r}")

    @property
    def peak(self) -> float:
        """What the share is multiplied by."""
        return float(self.value)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        """Factor of the peak after ``step`` (int64) updates; xp is numpy or pytensor.tensor."""
        raise NotImplementedError

    def __call__(self, step: Any) -> Any:
        """The learning rate after ``step`` updates: a float, or an array for an array of steps."""
        rate = self.peak * self.share(np.asarray(step, np.int64), "float64", np)
        return float(rate) if np.ndim(step) == 0 else rate + np.zeros(np.shape(step))

    def to_json(self) -> Any:
        """A plain dict (a number if constant) that :func:`from_json` reads."""
        return as_spec(self, "schedule")


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate at every step."""

    name = "constant"

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        return _real(1, dtype)

    def to_json(self) -> Any:
        return self.value


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Times ``factor`` every so many steps, or at each of the given steps.

    Parameters
    ----------
    value : float
        First learning rate.
    every : int or sequence of int
        A period in steps, or the steps at which the learning rate drops.
    factor : float
    """

    name = "step_decay"
    every: int | Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.every, int):
            require(self.every > 0, f"step_decay: every={self.every} must be positive")
        else:
            object.__setattr__(self, "every", drops := tuple(self.every))
            rising = all(a < b for a, b in pairwise((0, *drops)))
            require(bool(drops) and rising, f"step_decay: every={drops} must rise from above 0")
        _check_factor(self)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        if isinstance(self.every, int):
            drops = step // self.every
        else:
            drops = sum(xp.where(step >= s, np.int64(1), np.int64(0)) for s in self.every)
        return xp.power(_real(self.factor, dtype), _real(drops, dtype))


@dataclass(frozen=True)
class ExponentialDecay(Schedule):
    """Times ``factor`` every ``every`` steps, smoothly: ``value · factor^(step / every)``."""

    name = "exponential_decay"
    factor: float
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.every > 0, f"exponential_decay: every={self.every} must be positive")
        _check_factor(self)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        exponent = _real(step, dtype) / _real(self.every, dtype)
        return xp.power(_real(self.factor, dtype), exponent)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine wave from the peak down to ``final``, where it stays.

    Parameters
    ----------
    value : float
        Peak learning rate.
    steps : int
        Step at which ``final`` is reached, warm-up included.
    warmup : int
        Steps of linear rise before.
    final : float
        Last learning rate.
    """

    name = "cosine"
    steps: int
    _: KW_ONLY
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 <= self.warmup < self.steps,
            f"cosine: warmup={self.warmup} must be less than steps={self.steps}",
        )
        _check_final(self)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        length = self.steps - self.warmup
        elapsed = xp.clip(step - self.warmup, 0, length)
        share = _half_wave(elapsed, length, self, dtype, xp)
        return share * _ramp(step, self.warmup, dtype, xp) if self.warmup else share


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Cosine decay that starts anew, each time ``t_mult`` as long (SGDR).

    ``final + ½ (value - final) (1 + cos(π t / T_i))``, ``T_i = steps · t_mult^i``; Loshchilov &
    Hutter 2017, eq. 5.

    Parameters
    ----------
    value, final : float
        Highest and lowest learning rate.
    steps : int
        Length of the first cycle.
    t_mult : int
        How many times as long each next cycle is.
    """

    name = "warm_restarts"
    steps: int
    _: KW_ONLY
    t_mult: int = 2
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        valid = self.steps >= 1 and self.t_mult >= 1 and int(self.t_mult) == self.t_mult
        require(
            valid, f"warm_restarts: steps={self.steps}, t_mult={self.t_mult} must be whole and ≥ 1"
        )
        _check_final(self)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        if self.t_mult == 1:
            return _half_wave(step % self.steps, self.steps, self, dtype, xp)
        # Cycles start at steps (t_mult^i - 1) / (t_mult - 1): whole numbers, found by comparison
        # because a logarithm would round to the wrong cycle at their edges.
        starts, length = [0], self.steps
        while starts[-1] + length < 2**53:
            starts.append(starts[-1] + length)
            length *= self.t_mult
        table = np.array(starts, np.int64)
        start = xp.max(xp.where(step[..., None] >= table, table, np.int64(0)), axis=-1)
        return _half_wave(step - start, self.steps + start * (self.t_mult - 1), self, dtype, xp)


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """Rise linearly to the peak in ``steps`` steps, then follow another schedule.

    The first step takes ``peak / steps``; Goyal et al. 2017, section 2.2.

    Parameters
    ----------
    value : float or Schedule
        What follows; its step 0 is the end of the warm-up.
    steps : int
    """

    name = "linear_warmup"
    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _inner(self.value, self.name))
        require(self.steps >= 1, f"linear_warmup: steps={self.steps} must be positive")

    @property
    def peak(self) -> float:
        return float(self.value.peak)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        after = self.value.share(xp.maximum(step - self.steps, np.int64(0)), dtype, xp)
        return after * _ramp(step, self.steps, dtype, xp)


@dataclass(frozen=True)
class Plateau(Schedule):
    """Times ``factor`` after ``patience`` reported scores in a row without a new best one.

    The training loop reports: ``updates.report(score)``.  What it remembers is part of the
    optimizer's state.

    Parameters
    ----------
    value : float or Schedule
        The learning rate before any cut.
    factor : float
    patience : int
        Reports without improvement that bring a cut.
    mode : {"max", "min"}
        Whether a better score is higher (BLEU) or lower (a loss).
    threshold : float
        By how much a score must beat the best one to count.
    cooldown : int
        Reports after a cut that are not counted.
    minimum : float
        The cuts stop at this share of the learning rate.
    """

    name = "plateau"
    factor: float = 0.5
    _: KW_ONLY
    patience: int = 3
    mode: str = "max"
    threshold: float = 0.0
    cooldown: int = 0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _inner(self.value, self.name))
        require(self.mode in ("max", "min"), f"plateau: mode={self.mode!r}, use 'max' or 'min'")
        require(self.patience >= 1, f"plateau: patience={self.patience} must be at least 1")
        require(self.cooldown >= 0, f"plateau: cooldown={self.cooldown} must be at least 0")
        require(0 <= self.minimum <= 1, f"plateau: minimum={self.minimum} is a share, 0 to 1")
        _check_factor(self)

    @property
    def peak(self) -> float:
        return float(self.value.peak)

    def share(self, step: Any, dtype: str, xp: Any) -> Any:
        return self.value.share(step, dtype, xp)

    def start(self, dtype: str) -> dict[str, Any]:
        """First values of what it remembers; the learning rate is multiplied by ``factor``."""
        return {
            "factor": np.asarray(1, dtype),
            "best": np.asarray(np.nan, "float64"),
            "waited": np.asarray(0, "int64"),
        }

    def report(self, score: float, state: Mapping[str, Any]) -> bool:
        """Take note of a score; True if the learning rate was cut."""
        best, waited = float(state["best"].get_value()), int(state["waited"].get_value())
        gain = score - best if self.mode == "max" else best - score
        first = math.isnan(best) and not math.isnan(score)
        better = first or gain > self.threshold
        if better:
            state["best"].set_value(np.asarray(score, "float64"))
        if waited < 0:
            waited += 1  # cooling down
        else:
            waited = 0 if better else waited + 1
        cut = False
        if waited >= self.patience:
            waited, factor = -self.cooldown, state["factor"].get_value()
            smaller = np.asarray(max(float(factor) * self.factor, self.minimum), factor.dtype)
            if cut := bool(smaller < factor):
                state["factor"].set_value(smaller)
        state["waited"].set_value(np.asarray(waited, "int64"))
        return cut


def as_schedule(value: Any) -> Schedule:
    """A schedule as it is, a number as a constant one."""
    return value if isinstance(value, Schedule) else Constant(value)


def from_json(spec: Any) -> Schedule:
    """The schedule that ``to_json`` described: a number or ``{"schedule": name, ...}``."""
    return build(spec, "schedule", _BY_NAME) if isinstance(spec, Mapping) else Constant(spec)


def as_spec(item: Any, key: str) -> dict[str, Any]:
    """The fields of a schedule or transform, and under ``key`` its name, as JSON can hold them."""
    spec: dict[str, Any] = {key: item.name}
    for field in fields(item):
        value = getattr(item, field.name)
        if isinstance(value, Schedule):
            value = value.to_json()
        spec[field.name] = list(value) if isinstance(value, tuple) else value
    return spec


def build(spec: Any, key: str, table: Mapping[str, Any]) -> Any:
    """The inverse of :func:`as_spec`; only classes in ``table`` can be named."""
    require(isinstance(spec, Mapping) and key in spec, f"{spec!r} needs the key {key!r}")
    name, options = spec[key], {k: v for k, v in spec.items() if k != key}
    require(name in table, f"no {key} {name!r}{suggest(str(name), table)}")
    known = [field.name for field in fields(table[name]) if field.init]
    for option, value in options.items():
        require(option in known, f"{name} has no option {option!r}{suggest(option, known)}")
        if isinstance(value, Mapping):
            options[option] = from_json(value)
    try:
        return table[name](**options)
    except TypeError as error:
        raise OptimizerError(f"{key} {name}: {error}") from None


def _inner(value: Any, name: str) -> Schedule:
    inner = as_schedule(value)
    require(
        not isinstance(inner, Plateau), f"plateau must be the outermost schedule, around {name}"
    )
    return inner


def _check_factor(schedule: Any) -> None:
    factor, name = schedule.factor, schedule.name
    require(0 < factor <= 1, f"{name}: factor={factor} must be above 0 and at most 1")


def _check_final(schedule: Any) -> None:
    final, value = schedule.final, schedule.value
    require(0 <= final <= value, f"{schedule.name}: final={final} must be between 0 and {value}")


def _real(x: Any, dtype: str) -> Any:
    """A variable, an array or a literal in the working precision."""
    return x.astype(dtype) if hasattr(x, "astype") else np.dtype(dtype).type(x)


def _ramp(step: Any, steps: int, dtype: str, xp: Any) -> Any:
    return _real(xp.minimum(step + 1, np.int64(steps)), dtype) / _real(steps, dtype)


def _half_wave(elapsed: Any, length: Any, schedule: Any, dtype: str, xp: Any) -> Any:
    """From 1 down to final / value in ``length`` steps."""
    low = schedule.final / schedule.value if schedule.value else 1.0
    done = _real(elapsed, dtype) / _real(length, dtype)
    wave = _real(1, dtype) + xp.cos(_real(math.pi, dtype) * done)
    return _real(low, dtype) + _real((1 - low) / 2, dtype) * wave


constant, step_decay, exponential_decay = Constant, StepDecay, ExponentialDecay
cosine, warm_restarts, linear_warmup, plateau = Cosine, WarmRestarts, LinearWarmup, Plateau

_ALL = (Constant, StepDecay, ExponentialDecay, Cosine, WarmRestarts, LinearWarmup, Plateau)
_BY_NAME: dict[str, type[Schedule]] = {schedule.name: schedule for schedule in _ALL}
