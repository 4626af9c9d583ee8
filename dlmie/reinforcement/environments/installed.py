"""Gymnasium, which is an optional part of dlmie."""

from __future__ import annotations

import importlib
from types import ModuleType

from dlmie.errors import DlmieError


def gymnasium() -> ModuleType:
    """The package; every environment of dlmie is registered with it.

    Raises
    ------
    DlmieError
        It is not installed.
    """
    try:
        package = importlib.import_module("gymnasium")
    except ImportError:
        raise DlmieError(
            "agents need Gymnasium: install it with pip install 'dlmie[agents]'"
        ) from None
    importlib.import_module("dlmie.reinforcement.environments.world_navigate")
    return package
