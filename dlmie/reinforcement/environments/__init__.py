"""Environments: Gymnasium's by name, WorldNavigate, and those of the older interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dlmie.reinforcement.environments.environment import Environment as Environment
    from dlmie.reinforcement.environments.older import OlderEnvironment as OlderEnvironment
    from dlmie.reinforcement.environments.older import register_older as register_older

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "environment": ["Environment"],
        "older": ["OlderEnvironment", "register_older"],
    },
)
