"""The options of agents, declared once: for Python, recipes, ``config.json`` and commands.

Nothing here needs PyTensor, so that ``dlmie train --help`` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlmie.training.config import OptionGroup, TaskOptions, TrainingOptions, option


@dataclass(frozen=True, kw_only=True)
class ReinforcementOptions(TrainingOptions):
    """How long an agent plays, and how it is measured.

    A batch is so many whole episodes. Of the scores, ``monitor`` names one of ``reward`` (of greedy
    episodes, which are not learned from), ``train_reward`` and ``loss``.
    """

    # What captioning has, too, has its help there.
    epochs: int = option(20, low=1)
    batch: int = option(1, low=1)
    monitor: str = option("reward")
    episodes: int = option(100, "Of agents: episodes in an epoch.", low=1)
    test_episodes: int = option(
        100, "Of agents: greedy episodes after each epoch, which choose the best.", low=1
    )

    ORDER: ClassVar[frozenset[str]] = TrainingOptions.ORDER | {"episodes"}
    SCORES: ClassVar[frozenset[str]] = TrainingOptions.SCORES | {"test_episodes"}

    @property
    def rollouts(self) -> int:
        """Batches of episodes in an epoch; the last may have fewer."""
        return -(-self.episodes // self.batch)


@dataclass(frozen=True, kw_only=True)
class QLearningOptions(OptionGroup):
    """The value of an action moves toward its reward and the value of what follows, each step.

    With probability ε an action is drawn; ε falls from ``epsilon`` to ``epsilon_last``.
    """

    gamma: float = option(0.99, "Discount of rewards at each further step.", low=0, high=1)
    epsilon: float = option(1.0, "Share of random actions at first.", low=0, high=1)
    epsilon_last: float = option(0.1, "Share of random actions in the end.", low=0, high=1)
    epsilon_steps: int = option(10_000, "Steps from the one to the other.", low=1)
    value_noise: float = option(
        0.0, "Normal noise on values when acting; divided by the episode's number.", low=0
    )


@dataclass(frozen=True, kw_only=True)
class DeepQOptions(QLearningOptions):
    """Q-learning from a memory of past steps, with a second network that follows slowly."""

    double: bool = option(False, "The learning network chooses the next action, not the other.")
    tau: float = option(
        0.001, "By so much the second network follows at each update.", low=0, high=1
    )
    memory: int = option(50_000, "Steps remembered.", low=1)
    minibatch: int = option(32, "Remembered steps in an update.", low=1)
    update_every: int = option(4, "Steps between updates.", low=1)
    random_steps: int = option(10_000, "Random steps before the first update.", low=0)
    error: str = option("squared", "Of values: squared or huber.")


@dataclass(frozen=True, kw_only=True)
class PolicyGradientOptions(OptionGroup):
    """REINFORCE: actions become as much more probable as what followed was better than usual."""

    gamma: float = option(0.99, low=0, high=1)
    advantage: str = option(
        "episode", "Returns are compared within an episode, a batch, or with the same time."
    )


@dataclass(frozen=True, kw_only=True)
class WorldModelOptions(PolicyGradientOptions):
    """The policy learns in episodes that a model imagines, the model from real ones, in turn."""

    model_episodes: int = option(100, "Real episodes before the policy begins to learn.", low=0)
    imagined_steps: int = option(300, "Steps of an imagined episode at most.", low=1)
    done_threshold: float = option(
        0.1, "An imagined episode ends where the end has this probability.", low=0, high=1
    )


#: The objectives of agents by the name in a run's configuration.
OBJECTIVES: dict[str, type[OptionGroup]] = {
    "q-learning": QLearningOptions,
    "deep-q": DeepQOptions,
    "policy-gradient": PolicyGradientOptions,
    "world-model": WorldModelOptions,
}

OPTIONS = TaskOptions(training=ReinforcementOptions, objectives=OBJECTIVES)
