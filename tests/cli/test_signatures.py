"""Options take their defaults from the functions they belong to."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from dlmie.cli import signatures
from dlmie.cli.settings import GIVEN, MODELS, SECTIONS
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


def test_training_knows_the_models_of_the_hub() -> None:
    from dlmie.captioning import CAPTIONERS

    assert {k: f"{m}:{c}" for k, (m, c) in CAPTIONERS.items()} == MODELS


def test_every_option_of_a_model_is_explained() -> None:
    from dlmie.cli.commands.train import _HELP

    for target in MODELS.values():
        for name in parameters(target):
            assert name in _HELP or name in GIVEN, name


def test_types_follow_annotations() -> None:
    known = parameters("dlmie.captioning.training:train")
    assert known["epochs"].type is int
    assert known["patience"].type is int  # int | None
    assert known["flip"].type is bool
    assert known["monitor"].type is str


def test_every_option_of_training_has_its_section_in_the_settings() -> None:
    from dlmie.cli.commands import train

    options = {*train._OBJECTIVE, *train._TEACHING, *train._TRAINING, "decoding"}
    assert options == {*SECTIONS["objective"], *SECTIONS["training"]}
