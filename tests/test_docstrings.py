"""The examples of docstrings run, and give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest
from layout import modules

WITH_EXAMPLES = [name for name, path in modules() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
