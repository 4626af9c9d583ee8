"""What a world model expects of each step of real episodes, beside what came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlmie.models.agents.world_model import WorldModel
from dlmie.reinforcement.environments.environment import Environment
from dlmie.reinforcement.episodes import Player, Use
from dlmie.visualize.figures.drawing import file_of


@dataclass(frozen=True, eq=False)
class Predictions:
    """One-step predictions along greedy episodes.

    Attributes
    ----------
    expected, found : (steps, dimensions + 2) float64
        The elements of the next observation, the reward, and the end: its probability, and whether
        it came.
    """

    expected: np.ndarray
    found: np.ndarray

    @property
    def errors(self) -> list[float]:
        """Root of the mean squared error of each column."""
        roots: list[float] = np.sqrt(((self.expected - self.found) ** 2).mean(axis=0)).tolist()
        return roots

    @property
    def names(self) -> list[str]:
        """What the columns are."""
        return [*(f"observation {i}" for i in range(self.found.shape[1] - 2)), "reward", "end"]

    def picture(self, kind: str = "png") -> bytes:
        """A row for each column: what was expected, over what came."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = self.found.shape[1]
        figure = Figure(figsize=(8, 2 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(rows, sharex=True, squeeze=False)[:, 0]
        for axes, name, expected, found in zip(
            every, self.names, self.expected.T, self.found.T, strict=True
        ):
            axes.plot(found, color="tab:orange", label="found")
            axes.plot(expected, color="tab:blue", label="expected", linewidth=1)
            axes.set_ylabel(name)
        every[-1].set_ylim(-0.05, 1.05)  # a probability
        low, high = every[-2].get_ylim()
        every[-2].set_ylim(min(low, high - 1), max(high, low + 1))  # errors of 0.001 are small
        every[0].legend(loc="upper right")
        every[-1].set_xlabel("step")
        return file_of(figure, kind=kind, dpi=100)


def predictions(
    agent: WorldModel, environment: Environment, *, episodes: int = 1, seed: int = 0
) -> Predictions:
    """What the model expects at each step of some greedy episodes."""
    made = environment.make()
    player = Player(made, agent.spaces, seed=seed, use=Use.SHOWING)
    expected, found = [], []
    try:
        for number in range(episodes):
            observation, generator = player.begin(number)
            over = False
            while not over:
                action = agent.act(observation, generator)
                imagined, reward, end = agent.expect(observation, action)
                observation, real, terminated, truncated = player.step(action)
                expected.append([*imagined.ravel(), reward, end])
                found.append([*observation.ravel(), real, float(terminated)])
                over = terminated or truncated
    finally:
        made.close()
    return Predictions(np.array(expected, np.float64), np.array(found, np.float64))
