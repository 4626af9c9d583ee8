"""The optimiser of ``dlmie train``: a few flat options → a chain of :mod:`dlmie.optim`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dlmie.errors import DlmieError

#: The options and their defaults; recipes use the same names.
DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 4e-4,
    "schedule": "constant",
    "warmup": 0,
    "clip_norm": 5.0,
    "clip_value": None,
    "weight_decay": None,
    "ema": None,
}
_ADAMW_DECAY = 1e-2  # of optim.adamw


def build(options: Mapping[str, Any], *, steps_per_epoch: int, epochs: int, monitor: str) -> Any:
    """The chain that the options describe.

    Parameters
    ----------
    options : mapping
        Some of `DEFAULTS`: ``optimizer`` and ``schedule`` are names, with options behind a colon:
        ``"adam:beta2=0.98"``, ``"warm_restarts:steps=2epochs,t_mult=2"``.
    steps_per_epoch, epochs : int
        What lengths that are not given follow from.
    monitor : str
        The score that a plateau schedule watches.

    Raises
    ------
    DlmieError
        An unknown name or option; says which are known.
    """
    from dlmie import optim

    chosen = {**DEFAULTS, **options}
    rule = _named(str(chosen["optimizer"]), "transform", steps_per_epoch)
    schedule = _named(str(chosen["schedule"]), "schedule", steps_per_epoch)
    warmup = _steps(chosen["warmup"], steps_per_epoch)
    rule["learning_rate"] = _schedule(
        schedule, float(chosen["lr"]), warmup, steps_per_epoch, epochs, monitor
    )
    decoupled = rule["transform"] == "adamw"
    if decoupled:
        rule["transform"] = "adam"
    decay = chosen["weight_decay"]
    decay = _ADAMW_DECAY if decoupled and decay is None else decay
    links: list[dict[str, Any]] = []
    if chosen["clip_value"]:
        links.append({"transform": "clip_value", "threshold": chosen["clip_value"]})
    if chosen["clip_norm"]:
        links.append({"transform": "clip_norm", "threshold": chosen["clip_norm"]})
    if decay and not decoupled:
        links.append({"transform": "weight_decay", "rate": decay})
    links.append(rule)
    if decay and decoupled:
        links.append({"transform": "weight_decay", "rate": decay, "decoupled": True})
    if chosen["ema"]:
        links.append({"transform": "ema", "decay": chosen["ema"]})
    return optim.from_json(links)


def _schedule(
    spec: dict[str, Any], lr: float, warmup: int, steps_per_epoch: int, epochs: int, monitor: str
) -> Any:
    """The learning rate as :func:`dlmie.optim.schedules.from_json` reads it."""
    name = spec["schedule"]
    total = max(steps_per_epoch * epochs, warmup + 1)
    if name == "constant":
        rate: Any = lr
    else:
        # What is not said follows from the length of the run.
        missing: dict[str, dict[str, Any]] = {
            "cosine": {"steps": total, "warmup": warmup},
            "warm_restarts": {"steps": steps_per_epoch},
            "step_decay": {"every": max(1, total // 3)},
            "exponential_decay": {"factor": 0.95, "every": steps_per_epoch},
            "plateau": {"mode": "min" if "loss" in monitor else "max"},
        }
        rate = {"value": lr, **missing.get(name, {}), **spec}
    if not warmup or name == "cosine":
        return rate
    if name == "plateau":  # stays outermost: it must hear the scores
        return {**rate, "value": {"schedule": "linear_warmup", "value": lr, "steps": warmup}}
    return {"schedule": "linear_warmup", "value": rate, "steps": warmup}


def _named(text: str, key: str, steps_per_epoch: int) -> dict[str, Any]:
    """``"adam:beta2=0.98"`` → ``{"transform": "adam", "beta2": 0.98}``."""
    name, _, rest = text.partition(":")
    spec: dict[str, Any] = {key: name.strip().replace("-", "_")}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        option, equals, value = part.partition("=")
        if not equals:
            raise DlmieError(f"{text!r}: write options as NAME=VALUE, not {part!r}")
        spec[option.strip().replace("-", "_")] = _value(value.strip(), steps_per_epoch)
    return spec


def _value(text: str, steps_per_epoch: int) -> Any:
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


def _steps(value: Any, steps_per_epoch: int) -> int:
    """A number of steps, or ``"2 epochs"`` in steps."""
    match = re.fullmatch(r"([\d.]+) *(epochs?)?", str(value).strip())
    if match is None:
        raise DlmieError(f"{value!r} should be a number of steps, or of epochs: '2 epochs'")
    try:
        number = float(match[1])
    except ValueError:
        raise DlmieError(f"{value!r} is not a number") from None
    return round(number * (steps_per_epoch if match[2] else 1))
