"""The optimizer of a run: a few flat options that become a chain of :mod:`dlmie.optim`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dlmie.errors import DlmieError
from dlmie.training.config import OptionGroup, option
from dlmie.typing import JsonObject

_ADAMW_DECAY = 1e-2  # of optim.adamw


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions(OptionGroup):
    """A rule, its learning rate over time, and what is done to gradients and weights beside.

    ``optimizer`` and ``schedule`` are names, with options behind a colon: ``"adam:beta2=0.98"``,
    ``"warm_restarts:steps=2epochs,t_mult=2"``.
    """

    optimizer: str = option(
        "adam", "Rule, with options: adam, adam:beta2=0.98, adamw, rmsprop, sgd, …"
    )
    lr: float = option(4e-4, "Learning rate at its highest.", low=0)
    schedule: str = option("constant", "Of lr: constant, cosine, step_decay, plateau:patience=2, …")
    warmup: str = option("0", "Rise to it in so many steps, or '2 epochs'.")
    clip_norm: float = option(5.0, "Shorten longer gradients to this; 0: never.", low=0)
    clip_value: float | None = option(None, "Clip each element of the gradient.", low=0)
    weight_decay: float | None = option(None, "Pull weights toward zero.", low=0)
    ema: float | None = option(
        None, "Use the running average of the weights, with this decay.", low=0, high=1
    )

    def chain(
        self, *, steps_per_epoch: int, epochs: int, higher_is_better: bool
    ) -> list[JsonObject]:
        """The chain, as :func:`dlmie.optim.from_json` reads it.

        Parameters
        ----------
        steps_per_epoch, epochs : int
            What lengths that are not given follow from.
        higher_is_better : bool
            Of the score that a plateau schedule watches.

        Raises
        ------
        DlmieError
            A malformed option.
        """
        rule = _named(self.optimizer, "transform", steps_per_epoch)
        rule["learning_rate"] = self._learning_rate(steps_per_epoch, epochs, higher_is_better)
        decoupled = rule["transform"] == "adamw"
        if decoupled:
            rule["transform"] = "adam"
        decay = self.weight_decay
        decay = _ADAMW_DECAY if decoupled and decay is None else decay
        links: list[JsonObject] = []
        if self.clip_value:
            links.append({"transform": "clip_value", "threshold": self.clip_value})
        if self.clip_norm:
            links.append({"transform": "clip_norm", "threshold": self.clip_norm})
        if decay and not decoupled:
            links.append({"transform": "weight_decay", "rate": decay})
        links.append(rule)
        if decay and decoupled:
            links.append({"transform": "weight_decay", "rate": decay, "decoupled": True})
        if self.ema:
            links.append({"transform": "ema", "decay": self.ema})
        return links

    def _learning_rate(
        self, steps_per_epoch: int, epochs: int, higher_is_better: bool
    ) -> float | JsonObject:
        """The learning rate as :func:`dlmie.optim.schedules.from_json` reads it."""
        spec = _named(self.schedule, "schedule", steps_per_epoch)
        warmup = _steps(self.warmup, steps_per_epoch)
        name = spec["schedule"]
        total = max(steps_per_epoch * epochs, warmup + 1)
        if name == "constant":
            rate: float | JsonObject = self.lr
        else:
            # What is not given follows from the length of the run.
            missing: dict[str, JsonObject] = {
                "cosine": {"steps": total, "warmup": warmup},
                "warm_restarts": {"steps": steps_per_epoch},
                "step_decay": {"every": max(1, total // 3)},
                "exponential_decay": {"factor": 0.95, "every": steps_per_epoch},
                "plateau": {"mode": "max" if higher_is_better else "min"},
            }
            rate = {"value": self.lr, **missing.get(name, {}), **spec}
        if not warmup or name == "cosine":
            return rate
        if isinstance(rate, dict) and name == "plateau":  # outermost: it must hear the scores
            inner = {"schedule": "linear_warmup", "value": self.lr, "steps": warmup}
            return {**rate, "value": inner}
        return {"schedule": "linear_warmup", "value": rate, "steps": warmup}


def _named(text: str, key: str, steps_per_epoch: int) -> JsonObject:
    """``"adam:beta2=0.98"`` → ``{"transform": "adam", "beta2": 0.98}``."""
    name, _, rest = text.partition(":")
    spec: JsonObject = {key: name.strip().replace("-", "_")}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = part.partition("=")
        if not equals:
            raise DlmieError(f"{text!r}: write options as NAME=VALUE, not {part!r}")
        spec[option.strip().replace("-", "_")] = _value(value.strip(), steps_per_epoch)
    return spec


def _value(text: str, steps_per_epoch: int) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if re.fullmatch(r"[\d.]+ *epochs?", text):
        return _steps(text, steps_per_epoch)
    return text


def _steps(value: str, steps_per_epoch: int) -> int:
    """A number of steps, or ``"2 epochs"`` in steps."""
    match = re.fullmatch(r"([\d.]+) *(epochs?)?", value.strip())
    if match is None:
        raise DlmieError(f"{value!r} should be a number of steps, or of epochs: '2 epochs'")
    try:
        number = float(match[1])
    except ValueError:
        raise DlmieError(f"{value!r} is not a number") from None
    return round(number * (steps_per_epoch if match[2] else 1))
