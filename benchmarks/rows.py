"""The rows of ``dlmie bench``: which there are, their goals, and their entries in the result."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.timing import COLUMNS, Entry
from dlmie.errors import DlmieError

Row = Callable[..., Entry]


@dataclass(frozen=True)
class Goal:
    """What a row should reach, and the module of this folder that measures it.

    Parameters
    ----------
    ratio, ratio_eager : float, optional
        At least: the time of the fastest other over dlmie's; ``ratio_eager``: of PyTorch without
        ``torch.compile``.
    seconds : float, optional
        At most.
    """

    module: str
    ratio: float | None = None
    ratio_eager: float | None = None
    seconds: float | None = None

    def entry(self) -> Entry:
        """The fields ``goal`` and, where there is one, ``goal_eager``."""
        goal = self.ratio if self.seconds is None else self.seconds
        eager = {} if self.ratio_eager is None else {"goal_eager": self.ratio_eager}
        return {"goal": goal, **eager}


#: What plain ``dlmie bench`` measures, in this order.
GOALS = {
    "vgg16_forward": Goal("encoders", ratio=1.7),
    "vgg16_input_gradient": Goal("encoders", ratio=1.6),
    "vgg16_training": Goal("encoders", ratio=1.8),
    "efficientnet_lite0_forward": Goal("encoders", ratio=1.1, ratio_eager=1.9),
    "efficientnet_lite0_batch1": Goal("encoders", ratio=1.0),
    "efficientnet_lite0_ascent_step": Goal("ascent", ratio=1.8),
    "show_attend_tell_step": Goal("recurrent", ratio=2.2),
    "show_tell_step": Goal("recurrent", ratio=1.5),
    "beam5": Goal("decoding", ratio=2.8),
    "beam5_batch1": Goal("decoding", ratio=2.0),
    "caption_folder": Goal("folders", ratio=1.5),
    "dc_gan_step": Goal("generators", ratio=1.3),
    "three_layer_convnet_step": Goal("classifiers", ratio=1.5),
    "convnet_step": Goal("classifiers", ratio=1.5),
    "cartpole_policy": Goal("agents", ratio=2.0),
    "cartpole_dqn": Goal("agents", ratio=2.0),
    "knn": Goal("neighbors", ratio=1.0),
    "compile_cold": Goal("compiling", seconds=20),
    "compile_warm": Goal("compiling", seconds=8),
    "first_caption_cold": Goal("compiling", seconds=10),
    "first_caption_warm": Goal("compiling", seconds=1.5),
}
#: Each has a table ``ROWS``.
MODULES = (
    *("encoders", "recurrent", "decoding", "generators", "classifiers", "agents", "neighbors"),
    *("compiling", "ascent", "convolution", "folders", "memory", "recurrent_parts"),
)


class Unavailable(DlmieError):
    """A row that this machine cannot measure."""


def load() -> tuple[dict[str, Row], dict[str, str]]:
    """Every row by name, those with a goal first; and why modules could not be imported, if any.

    A row with a goal is there even if its module is not: it then raises `Unavailable`.
    """
    rows: dict[str, Row] = {}
    reasons: dict[str, str] = {}
    for module in MODULES:
        try:
            rows |= importlib.import_module(f"benchmarks.{module}").ROWS
        except Exception as error:
            reasons[module] = _reason(error)
    main = {name: rows.pop(name, _unavailable(goal, reasons)) for name, goal in GOALS.items()}
    return {**main, **rows}, reasons


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return "PyTorch, which dlmie is compared with, is not installed: pip install torch"
    if isinstance(error, ModuleNotFoundError) and error.name == "sklearn":
        return (
            "scikit-learn, which dlmie is compared with, is not installed: pip install scikit-learn"
        )
    return one_line(error)


def _unavailable(goal: Goal, reasons: dict[str, str]) -> Row:
    def row() -> Entry:
        raise Unavailable(reasons.get(goal.module, f"it is not in benchmarks/{goal.module}.py"))

    return row


def measure(name: str, row: Row, compile: bool = False) -> Entry:
    """The row's entry in the result; ``compile`` adds ``torch.compile`` where the row can.

    ``wall_s`` is all the time that the row took: compiling, comparing and timing.
    """
    start = time.perf_counter()
    add = compile and "compile" in inspect.signature(row).parameters
    measured = row(compile=True) if add else row()
    return _entry(name, {**measured, "wall_s": time.perf_counter() - start})


def failed(name: str, error: Exception) -> Entry:
    """The entry of a row that raised ``error``: nothing measured, and ``error`` in one line."""
    return _entry(name, {"error": one_line(error)})


def one_line(error: Exception) -> str:
    """An error in one line; one that was not foreseen begins with its kind."""
    text = " ".join(str(error).split())
    if isinstance(error, DlmieError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _entry(name: str, measured: Entry) -> Entry:
    goal = GOALS[name].entry() if name in GOALS else {"goal": None}
    return {
        "name": name,
        **dict.fromkeys((*COLUMNS, "ratio")),
        **goal,
        "spread": None,
        **measured,
    }
