"""Optimizers: how far to step along a gradient; NumPy, on any parameters, each image alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Rate = float | Callable[[int], float]


class Optimizer(Protocol):
    """Gradients → steps; ``begin`` makes the function that remembers."""

    def begin(self) -> Callable[[np.ndarray, int], np.ndarray]:
        """A function (gradient (batch, …), step) → what is added to the parameters."""
        ...


def schedule(base: float, stages: Sequence[tuple[int, float]]) -> Callable[[int], float]:
    """``base`` times the factor of the stage that a step is in: ``[(800, 1), (500, 0.1), …]``."""

    def rate(step: int) -> float:
        for length, factor in stages:
            if step < length:
                return base * factor
            step -= length
        return base * stages[-1][1]

    return rate


def _rate(rate: Rate, step: int) -> float:
    return rate(step) if callable(rate) else rate


def norms(gradient: np.ndarray, kind: str = "l2") -> np.ndarray:
    """The length of each image's gradient, (batch, 1, …): "l2", "rms", "mean" or "max"."""
    axes = tuple(range(1, gradient.ndim))
    size = abs(gradient.astype(np.float64))
    if kind == "mean":
        value = size.mean(axis=axes, keepdims=True)
    elif kind == "max":
        value = size.max(axis=axes, keepdims=True)
    else:
        square = np.square(size)
        mean = square.mean(axis=axes, keepdims=True)
        value = np.sqrt(mean if kind == "rms" else square.sum(axis=axes, keepdims=True))
    return value.astype(gradient.dtype)


@dataclass(frozen=True)
class Gradient:
    """Gradient ascent, with the gradient's length normalized ("l2", "rms", "mean", "max") or not.

    ``momentum`` adds up steps: ``v ← momentum v + step``; it starts anew when the rate changes.
    """

    rate: Rate
    normalize: str | None = "l2"
    momentum: float = 0.0

    def begin(self) -> Callable[[np.ndarray, int], np.ndarray]:
        velocity: np.ndarray | None = None
        last: float | None = None

        def step(gradient: np.ndarray, t: int) -> np.ndarray:
            nonlocal velocity, last
            rate = _rate(self.rate, t)
            if self.normalize:
                gradient = gradient / (norms(gradient, self.normalize) + 1e-20)
            move = gradient.dtype.type(rate) * gradient
            if not self.momentum:
                return move
            if velocity is None or rate != last:
                velocity = np.zeros_like(move)
            velocity = gradient.dtype.type(self.momentum) * velocity + move
            last = rate
            return velocity

        return step


@dataclass(frozen=True)
class Progress:
    """Steps that promise a rise of ``desired`` each: rate ``desired / ‖g‖²``, at most ``most``."""

    desired: float = 2.0
    most: float = 100.0

    def begin(self) -> Callable[[np.ndarray, int], np.ndarray]:
        def step(gradient: np.ndarray, t: int) -> np.ndarray:
            rate = np.minimum(self.desired / (norms(gradient) ** 2 + 1e-20), self.most)
            return rate.astype(gradient.dtype) * gradient

        return step


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015), upwards."""

    rate: Rate = 0.05
    beta1: float = 0.9
    beta2: float = 0.999

    def begin(self) -> Callable[[np.ndarray, int], np.ndarray]:
        m: np.ndarray | float = 0.0
        v: np.ndarray | float = 0.0
        count = 0

        def step(gradient: np.ndarray, t: int) -> np.ndarray:
            nonlocal m, v, count
            count += 1
            kind = gradient.dtype.type
            m = kind(self.beta1) * m + kind(1 - self.beta1) * gradient
            v = kind(self.beta2) * v + kind(1 - self.beta2) * np.square(gradient)
            rate = kind(_rate(self.rate, t) / (1 - self.beta1**count))
            return rate * m / (np.sqrt(v / kind(1 - self.beta2**count)) + kind(1e-8))

        return step


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS-B through SciPy, in float64: no random transforms, no steps of regularizers."""

    memory: int = 10
