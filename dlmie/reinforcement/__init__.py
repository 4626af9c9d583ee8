"""Reinforcement learning: agents that learn from rewards, trained ones, and their scores.

What every name here stands for is imported when it is first used. Environments are Gymnasium's,
which is an optional part: ``pip install dlmie[agents]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dlmie.reinforcement.environments.environment import Environment as Environment
    from dlmie.reinforcement.evaluation import AgentScores as AgentScores
    from dlmie.reinforcement.evaluation import evaluate as evaluate
    from dlmie.reinforcement.model_files import load as load
    from dlmie.reinforcement.model_files import save_model as save_model
    from dlmie.reinforcement.playing import play as play

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "environments.environment": ["Environment"],
        "evaluation": ["AgentScores", "evaluate"],
        "model_files": ["load", "save_model"],
        "playing": ["play"],
    },
)
