"""Options take their defaults from the functions they belong to."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from dlmie.cli import signatures
from dlmie.cli.settings import GIVEN, trained_models
from dlmie.cli.signatures import COMPUTED, REQUIRED, parameters

SOURCES = Path(signatures.__file__).parent.rglob("*.py")
USES = {m for path in SOURCES for m in re.findall(r"\"(dlmie[\w.]*:\w+)\"", path.read_text())}


@pytest.mark.parametrize("target", sorted(USES))
def test_what_is_parsed_is_what_python_sees(target: str) -> None:
    module, name = target.split(":")
    real = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    for key, parsed in parameters(target).items():
        if key == "self" or parsed.default is COMPUTED:
            continue
        default: Any = real[key].default
        expected = REQUIRED if default is inspect.Parameter.empty else default
        if real[key].kind is not inspect.Parameter.VAR_KEYWORD:
            assert parsed.default == expected or parsed.default is expected, key


def test_every_option_of_a_model_is_explained() -> None:
    from dlmie.cli.commands.train import _HELP

    for target in trained_models().values():
        for name in parameters(target):
            assert name in _HELP or name in GIVEN, name


def test_types_follow_annotations() -> None:
    known = parameters("dlmie.models.captioners.show_attend_tell:ShowAttendTell")
    assert known["embedding"].type is int
    assert known["project"].type is int  # int | None
    assert known["hard"].type is bool
    assert known["score"].type is str


def test_every_declared_option_is_an_option_of_train() -> None:
    from dlmie.cli.commands.train import command
    from dlmie.training.optimizer_options import OptimizerOptions
    from dlmie.training.registry import TASKS, task_options

    there = {param.name: param for param in command.params}
    for task in TASKS:
        options = task_options(task)
        for group in (options.training, *options.objectives.values(), OptimizerOptions):
            for declared in group.declared():
                if declared.help:
                    assert there[declared.name].default == declared.default, declared.name
