"""What agents learn: values of actions, policies, and models of a world."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter
from dlmie.layers.noise import Noise
from dlmie.losses import (
    binary_cross_entropy,
    huber,
    policy_gradient,
    q_targets,
    squared_error,
    value_of,
)
from dlmie.models.agents.agent import Agent
from dlmie.models.agents.deep_q import DQN
from dlmie.models.agents.policies import Policy
from dlmie.models.agents.world_model import WorldModel
from dlmie.reinforcement.options import DeepQOptions, QLearningOptions
from dlmie.text import suggest
from dlmie.training.objective import Loss, Objective

#: How far a value is from what it should be.
ERRORS = ("squared", "huber")


class QLearning(Objective):
    """``½ (Q(s, a) - y)²``: values move toward what was found, by the learning rate.

    ``y = r + γ (1 - terminated) max_a' Q(s', a')`` (Watkins 1989); with plain gradient descent that
    is ``Q += lr (y - Q)``. An agent with a target network takes the values of ``s'`` from it; with
    ``double`` it still chooses ``a'`` itself. ``"huber"`` of ``options.error`` bounds the gradient
    (Mnih et al. 2015).

    Parameters
    ----------
    agent : Agent
    options : QLearningOptions or DeepQOptions
    """

    name = "Q-learning"

    def __init__(self, agent: Agent, options: QLearningOptions) -> None:
        self.agent, self.options = agent, options
        self._error = options.error if isinstance(options, DeepQOptions) else "squared"
        if self._error not in ERRORS:
            raise DlmieError(f"there is no error {self._error!r}{suggest(self._error, ERRORS)}")
        real = agent.dtype
        self._inputs = {
            "observations": agent.observations,
            "actions": pt.tensor("actions", dtype="int64", shape=(None,)),
            "rewards": pt.tensor("rewards", dtype=real, shape=(None,)),
            "next_observations": agent.observation_batch("next_observations"),
            "terminated": pt.tensor("terminated", dtype=real, shape=(None,)),
        }

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """The arrays of :class:`~dlmie.reinforcement.replay.Replay`, each (batch, …)."""
        return self._inputs

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        values = value_of(self.agent.scores(batch["observations"]), batch["actions"])
        targets = disconnected_grad(self.targets(batch))
        if self._error == "huber":
            total = huber(values, targets, reduction="sum")
        else:
            half = np.asarray(0.5, values.type.dtype)
            total = half * squared_error(values, targets, reduction="sum")
        return Loss(total=total, weight=pt.cast(batch["actions"].shape[0], self.agent.dtype))

    def targets(self, batch: Mapping[str, Variable]) -> Variable:
        """``y`` (batch,)."""
        agent, following = self.agent, batch["next_observations"]
        next_scores = (
            agent.target_scores(following) if isinstance(agent, DQN) else agent.scores(following)
        )
        double = isinstance(self.options, DeepQOptions) and self.options.double
        chosen_by = agent.scores(following) if double else None
        return q_targets(
            batch["rewards"], batch["terminated"], next_scores, chosen_by, gamma=self.options.gamma
        )


class PolicyGradient(Objective):
    """``-A log π(a | s)``: REINFORCE (Williams 1992).

    Parameters
    ----------
    agent : Policy
    """

    name = "policy gradient"

    def __init__(self, agent: Policy) -> None:
        self.agent = agent
        self._inputs = {
            "observations": agent.observations,
            "actions": pt.tensor("actions", dtype="int64", shape=(None,)),
            "advantages": pt.tensor("advantages", dtype=agent.dtype, shape=(None,)),
        }

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """``observations``, ``actions`` and ``advantages`` of whole episodes, each (batch, …)."""
        return self._inputs

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        logits, actions = self.agent.scores(batch["observations"]), batch["actions"]
        total = policy_gradient(logits, actions, batch["advantages"], reduction="sum")
        return Loss(total=total, weight=pt.cast(actions.shape[0], self.agent.dtype))


class Prediction(Objective):
    """What a model of the world gets wrong.

    The mean squared error of the next observation's elements and of the reward, and the negative
    log-likelihood of whether the episode ended, as in the course.

    Parameters
    ----------
    agent : WorldModel
    """

    name = "world model"

    def __init__(self, agent: WorldModel) -> None:
        self.agent = agent
        vector = {"dtype": agent.dtype, "shape": (None,)}
        self._inputs = {
            "observations": agent.observations,
            "actions": agent.actions,
            "next_observations": agent.observation_batch("next_observations"),
            "rewards": pt.tensor("rewards", **vector),
            "terminated": pt.tensor("terminated", **vector),
        }

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """Steps of whole episodes, each array (batch, …)."""
        return self._inputs

    def trained(self, loss: Loss) -> list[Parameter]:
        return self.agent.model_parameters

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        expected = self.agent.imagine(batch["observations"], batch["actions"])
        found = pt.cast(batch["next_observations"], self.agent.dtype)
        squares = pt.sqr(expected.observations - found).flatten(2)
        reward = pt.sqr(expected.rewards - batch["rewards"]).sum()
        done = binary_cross_entropy(expected.done, batch["terminated"], reduction="sum")
        total = squares.mean(axis=1).sum() + reward + done
        return Loss(total=total, weight=pt.cast(batch["actions"].shape[0], self.agent.dtype))
