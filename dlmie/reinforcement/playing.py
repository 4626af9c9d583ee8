"""Episodes to look at: the pictures of what an agent does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.errors import DataError
from dlmie.files import atomic
from dlmie.models.agents.agent import Agent
from dlmie.models.agents.world_model import WorldModel
from dlmie.reinforcement.environments.environment import Environment
from dlmie.reinforcement.episodes import Player, Use
from dlmie.reinforcement.evaluation import opened
from dlmie.reinforcement.predictions import predictions
from dlmie.visualize.figures.figure import Figure

if TYPE_CHECKING:
    from gymnasium import Env


@dataclass(frozen=True, eq=False)
class Played:
    """An episode.

    Attributes
    ----------
    environment : str
    frames : list of (rows, columns, 3) uint8
        Before each action, and at the end.
    actions : list of int
    rewards : list of float
    """

    environment: str
    frames: list[np.ndarray]
    actions: list[int]
    rewards: list[float]

    @property
    def reward(self) -> float:
        """The sum of the rewards."""
        return sum(self.rewards)

    def figure(self, *, fps: float = 10.0) -> Figure:
        """The last picture, and as an animation (``.gif``) all of them, so many in a second."""
        return Figure(image=self.frames[-1], frames=self.frames, seconds=1 / fps)


def play(
    agent: Agent | str | Path,
    environment: Environment | str | None = None,
    *,
    seed: int = 0,
    greedy: bool = True,
    steps: int | None = None,
) -> Played:
    """Play an episode and keep what it looks like.

    Parameters
    ----------
    agent
        An agent, or what :func:`~dlmie.reinforcement.model_files.load` takes.
    environment
        By default the one in which a loaded agent learned.
    seed : int
        Of the episode.
    greedy : bool
        Do what promises most; otherwise every action is drawn at random, for comparison.
    steps : int, optional
        Stop after so many.

    Raises
    ------
    DataError
        The environment shows no pictures, or is not of the agent's kind.
    """
    agent, chosen = opened(agent, environment)
    made = chosen.make(render_mode="rgb_array")
    try:
        player = Player(made, chosen.spaces, seed=seed, use=Use.SHOWING)
        observation, generator = player.begin(0)
        played = Played(chosen.name, [_frame(made, chosen.name)], [], [])
        over = False
        while not over and (steps is None or len(played.actions) < steps):
            if greedy:
                action = agent.act(observation, generator)
            else:
                action = int(generator.integers(agent.spaces.actions))
            observation, reward, terminated, truncated = player.step(action)
            played.actions.append(action)
            played.rewards.append(reward)
            played.frames.append(_frame(made, chosen.name))
            over = terminated or truncated
    finally:
        made.close()
    return played


def draw_predictions(
    source: str | Path, environment: str | None, to: Path, *, seed: int = 0
) -> None:
    """Chart what a world model expects at each step of an episode, beside what came.

    Raises
    ------
    DataError
        The agent has no model of its world.
    """
    agent, chosen = opened(source, environment)
    if not isinstance(agent, WorldModel):
        raise DataError(f"{source} is a {agent.kind}: only a world-model makes predictions")
    chart = predictions(agent, chosen, seed=seed).picture(to.suffix.lower().lstrip("."))
    atomic.write(to, chart)


def _frame(made: Env, name: str) -> np.ndarray:
    frame = np.asarray(made.render())
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise DataError(f"{name} shows no pictures")
    return frame.astype(np.uint8)
