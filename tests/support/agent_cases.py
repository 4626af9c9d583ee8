"""A small environment and steps that train in it: for tests of agents."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from dlmie import optim
from dlmie.models import DQN, Policy, QTable, WorldModel
from dlmie.models.agents.agent import Spaces
from dlmie.reinforcement.step import AgentStep, compile

ID = "Corridor-v0"
STEPS = 12
SPACES = Spaces((2,), 0, 2, "float32")


class Corridor(gymnasium.Env[np.ndarray, int]):
    """A corridor of nine places: 1 goes right, 0 left, at times by chance the other way.

    The right end gives 1 and the left end -1; both end the episode.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, slip: float = 0.1, render_mode: str | None = None) -> None:
        self.slip, self.render_mode = slip, render_mode
        self.observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(3, 6))
        return self._seen(), {}

    def step(self, action: int) -> Any:
        slips = self.np_random.random() < self.slip
        self.place += 1 if (action == 1) != slips else -1
        over = self.place in (0, 8)
        reward = {0: -1.0, 8: 1.0}.get(self.place, 0.0)
        return self._seen(), reward, over, False, {}

    def render(self) -> Any:
        pixels = np.zeros((8, 72, 3), np.uint8)
        pixels[:, 8 * self.place : 8 * self.place + 8] = 255
        return pixels

    def _seen(self) -> np.ndarray:
        return np.array([self.place / 4 - 1, 1.0], np.float32)


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=Corridor, max_episode_steps=STEPS)


def make_step(kind: str, *, seed: int = 0) -> AgentStep:
    """A step with everything that has a state: Adam, averages, a target network, a memory."""
    optimizer = optim.chain(optim.clip_norm(5.0), optim.adam(0.01), optim.ema(0.9))
    if kind == "policy":
        step = compile(Policy(SPACES, seed=seed), optimizer, seed=seed, advantage="batch")
    elif kind == "world-model":
        agent = WorldModel(SPACES, hidden=4, model_hidden=8, seed=seed)
        step = compile(agent, optimizer, seed=seed, model_episodes=4, imagined_steps=STEPS)
    elif kind == "q-table":
        lake = Spaces((), 16, 4, "int64")
        step = compile(QTable(lake, seed=seed), optim.sgd(0.5), seed=seed, epsilon_steps=200)
    else:
        step = compile(
            DQN(SPACES, hidden=16, dueling=True, seed=seed), optimizer, seed=seed, double=True,
            tau=0.05, memory=64, minibatch=8, update_every=2, random_steps=20, epsilon_steps=100,
        )  # fmt: skip
    step.progress = False
    return step
