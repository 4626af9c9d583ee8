"""How good an agent is: the rewards of greedy episodes, over several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlmie.errors import DataError
from dlmie.models.agents.agent import Agent
from dlmie.models.agents.world_model import WorldModel
from dlmie.reinforcement.environments.environment import Environment
from dlmie.reinforcement.episodes import Use, greedy_rewards
from dlmie.reinforcement.exact import optimum
from dlmie.reinforcement.model_files import load_with_environment
from dlmie.reinforcement.predictions import predictions


@dataclass(frozen=True, eq=False)
class AgentScores:
    """What an agent was rewarded with.

    Attributes
    ----------
    environment : str
    rewards : (seeds, episodes)
        Of each episode, the sum.
    optimum : float, optional
        The best mean that any agent can reach, where it can be computed.
    model_errors : mapping, optional
        Of a world model: the root of the mean squared error of its one-step predictions, by element
        of the observation, reward and end.
    """

    environment: str
    rewards: np.ndarray
    optimum: float | None = None
    model_errors: Mapping[str, float] | None = None

    @property
    def mean(self) -> float:
        """Over all episodes."""
        return float(self.rewards.mean())

    @property
    def std(self) -> float:
        """Over all episodes."""
        return float(self.rewards.std())

    @property
    def by_seed(self) -> list[float]:
        """The mean of the episodes of each seed."""
        means: list[float] = self.rewards.mean(axis=1).tolist()
        return means

    @property
    def std_of_seeds(self) -> float:
        """Of the means of the seeds."""
        return float(np.std(self.by_seed))

    def to_json(self) -> dict[str, object]:
        """The scores as a document."""
        seeds, episodes = self.rewards.shape
        return {
            "reward": self.mean,
            "std_of_episodes": self.std,
            "by_seed": self.by_seed,
            "std_of_seeds": self.std_of_seeds,
            "lowest": float(self.rewards.min()),
            "highest": float(self.rewards.max()),
            "optimum": self.optimum,
            "model_errors": None if self.model_errors is None else dict(self.model_errors),
            "protocol": {"environment": self.environment, "seeds": seeds, "episodes": episodes},
        }

    def __str__(self) -> str:
        seeds, episodes = self.rewards.shape
        best = "" if self.optimum is None else f", optimum {self.optimum:.4f}"
        lines = [
            f"reward {self.mean:.4f} ± {self.std:.4f} over {seeds * episodes:,} episodes of "
            f"{self.environment}{best}"
        ]
        if seeds > 1:
            means = " ".join(f"{mean:.4f}" for mean in self.by_seed)
            lines.append(f"mean of each seed: {means} (± {self.std_of_seeds:.4f})")
        if self.model_errors is not None:
            errors = ", ".join(f"{name} {error:.4f}" for name, error in self.model_errors.items())
            lines.append(f"one-step errors of the model: {errors}")
        return "\n".join(lines)


def evaluate(
    agent: Agent | str | Path,
    environment: Environment | str | None = None,
    *,
    episodes: int = 100,
    seeds: int = 3,
    seed: int = 0,
) -> AgentScores:
    """Score an agent that does in every step what it takes for the best.

    Parameters
    ----------
    agent
        An agent, or what :func:`~dlmie.reinforcement.model_files.load` takes.
    environment
        By default the one in which a loaded agent learned. No episode is one of training.
    episodes : int
        For each seed.
    seeds : int
        How many.
    seed : int
        The first.

    Raises
    ------
    DataError
        The environment is not of the kind that the agent was made for.
    """
    agent, chosen = opened(agent, environment)
    made = chosen.make()
    try:
        rewards = [
            greedy_rewards(agent, made, episodes=episodes, seed=number, use=Use.TEST)
            for number in range(seed, seed + seeds)
        ]
        best = optimum(made, chosen.step_limit)
    finally:
        made.close()
    errors = None
    if isinstance(agent, WorldModel):
        predicted = predictions(agent, chosen, episodes=5, seed=seed)
        errors = dict(zip(predicted.names, predicted.errors, strict=True))
    return AgentScores(chosen.name, np.stack(rewards), best, errors)


def opened(
    agent: Agent | str | Path, environment: Environment | str | None
) -> tuple[Agent, Environment]:
    """An agent, loaded where it is named, and an environment that it fits.

    Parameters
    ----------
    agent
        An agent, or what :func:`~dlmie.reinforcement.model_files.load` takes.
    environment
        By default the one in which a loaded agent learned.

    Raises
    ------
    DataError
        No environment is named, or it is not of the kind that the agent was made for.
    """
    if isinstance(agent, (str, Path)):
        agent, name = load_with_environment(agent)
        environment = environment or name
    if environment is None:
        raise DataError("name the environment: an agent that was not loaded does not know it")
    chosen = environment if isinstance(environment, Environment) else Environment(environment)
    check_fits(agent, chosen)
    return agent, chosen


def check_fits(agent: Agent, environment: Environment) -> None:
    """Refuse an environment of other observations or actions than an agent was made for.

    Raises
    ------
    DataError
        Says what differs.
    """
    if agent.spaces != environment.spaces:
        raise DataError(
            f"{environment.name} is not what the agent was made for: it has "
            f"{environment.spaces}, the agent {agent.spaces}"
        )
