"""Episodes: whole ones, each decided by its number and a seed.

An episode's environment is reset with a seed that follows from the run's seed and the number of the
episode, and whatever an agent draws in it comes from a generator of the same origin. Between
episodes there is nothing random to remember, so a run continues bit for bit whatever environment it
plays in.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from dlmie.models.agents.agent import Agent, Spaces

if TYPE_CHECKING:
    from gymnasium import Env

#: From an observation to an action.
Act = Callable[[np.ndarray, np.random.Generator], int]


class Use(IntEnum):
    """What episodes are for: each use has its own."""

    TRAINING, DEV, TEST, SHOWING = range(4)


class Player:
    """One environment that is played in, episode by episode.

    Parameters
    ----------
    made
        From :meth:`Environment.make`.
    spaces : Spaces
    seed : int
    use : Use
    """

    def __init__(self, made: Env, spaces: Spaces, *, seed: int, use: Use) -> None:
        self.made, self.spaces, self._seed, self._use = made, spaces, seed, use
        step = spaces.enlarge
        self._shrink = (slice(None, None, step),) * 2 if step > 1 else None

    def begin(self, episode: int) -> tuple[np.ndarray, np.random.Generator]:
        """Begin an episode: its first observation, and its source of chance."""
        sequence = np.random.SeedSequence([self._seed, self._use, episode])
        seed = int(sequence.generate_state(1)[0])
        observation, _ = self.made.reset(seed=seed)
        return self.observed(observation), np.random.default_rng(sequence)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool]:
        """What an action leads to: observation, reward, terminated, truncated."""
        observation, reward, terminated, truncated, _ = self.made.step(action)
        return self.observed(observation), float(reward), terminated, truncated

    def observed(self, observation: np.ndarray | int) -> np.ndarray:
        """An observation as it is stored and as a compiled function takes it."""
        array = np.asarray(observation)
        if self._shrink is not None:
            array = array[self._shrink]
        return array.astype(self.spaces.dtype, copy=False)

    def play(self, act: Act, episode: int) -> tuple[float, int]:
        """Play a whole episode: the sum of its rewards, and its steps."""
        observation, generator = self.begin(episode)
        total, steps, over = 0.0, 0, False
        while not over:
            observation, reward, terminated, truncated = self.step(act(observation, generator))
            total, steps, over = total + reward, steps + 1, terminated or truncated
        return total, steps


def greedy_rewards(agent: Agent, made: Env, *, episodes: int, seed: int, use: Use) -> np.ndarray:
    """The reward of each of some episodes (episodes,) that an agent plays as well as it can."""
    player = Player(made, agent.spaces, seed=seed, use=use)
    return np.array([player.play(agent.act, number)[0] for number in range(episodes)])
