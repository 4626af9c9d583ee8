"""Environments of the older interface: ``step`` gives four values, ``reset`` an observation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlmie.reinforcement.environments.installed import gymnasium

_gymnasium = gymnasium()


class OlderEnvironment(_gymnasium.Env):  # type: ignore[name-defined]
    """An environment of ``gym`` before 0.26 as one of Gymnasium's.

    ``done`` becomes ``terminated``, unless the environment says in ``info`` that a time limit ended
    the episode ("TimeLimit.truncated"): then it is ``truncated``.

    Parameters
    ----------
    older
        Has ``reset()``, ``step(action)``, ``observation_space`` and ``action_space``; ``seed`` and
        ``render(mode=…)`` where it can.
    render_mode : str, optional
        "rgb_array" or none.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, older: Any, render_mode: str | None = None) -> None:
        self.older, self.render_mode = older, render_mode
        self.observation_space, self.action_space = older.observation_space, older.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[object, dict[str, object]]:
        """Seed it, if it can be, and begin an episode."""
        if seed is not None and hasattr(self.older, "seed"):
            self.older.seed(seed)
        found = self.older.reset()
        if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict):
            return found
        return found, {}

    def step(self, action: int) -> tuple[object, float, bool, bool, dict[str, object]]:
        """One step, in five values."""
        result = self.older.step(action)
        if len(result) == 5:
            five: tuple[object, float, bool, bool, dict[str, object]] = result
            return five
        observation, reward, done, info = result
        truncated = bool(done) and bool(info.get("TimeLimit.truncated", False))
        return observation, float(reward), bool(done) and not truncated, truncated, info

    def render(self) -> np.ndarray | None:
        """A picture of it."""
        if self.render_mode != "rgb_array":
            return None
        return np.asarray(self.older.render(mode="rgb_array"))


def register_older(name: str, make: Callable[..., object], *, steps: int | None = None) -> None:
    """Make an environment of the older interface known by a name, such as ``Mine-v0``.

    The module that does so must be imported before a run with it is continued.

    Parameters
    ----------
    name : str
    make : callable
        Makes one: its class.
    steps : int, optional
        An episode is cut off after so many.
    """

    def entry_point(render_mode: str | None = None, **options: object) -> OlderEnvironment:
        return OlderEnvironment(make(**options), render_mode)

    _gymnasium.register(name, entry_point=entry_point, max_episode_steps=steps)
