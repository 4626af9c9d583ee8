"""An agent with a model of its world, in which its policy is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.graph.network import Parameter, find_parameters
from dlmie.layers import Linear
from dlmie.models.agents.agent import Config, Spaces
from dlmie.models.agents.policies import Policy
from dlmie.ops.conv.activation import relu


class Imagined(NamedTuple):
    """What the model expects of an action.

    Attributes
    ----------
    observations : (batch, *shape)
        The next ones.
    rewards : (batch,)
    done : (batch,)
        Log-odds that the episode ends.
    """

    observations: Variable
    rewards: Variable
    done: Variable


class WorldModel(Policy):
    """A policy, and a network that predicts what an action leads to.

    The model sees an observation and the number of an action; two hidden layers with ReLU give the
    next observation, the reward and the log-odds of the end, as in the course.

    Parameters
    ----------
    spaces, seed, dtype
        See :class:`~dlmie.models.agents.agent.Agent`.
    hidden : int
        Size of the policy's hidden layer.
    model_hidden : int
        Size of the model's two hidden layers.

    Examples
    --------
    >>> agent = WorldModel(Spaces((4,), 0, 2))
    >>> sum(p.get_value().size for p in agent.model_parameters)
    68870
    """

    kind = "world-model"
    objective = "world-model"

    def __init__(
        self,
        spaces: Spaces,
        *,
        hidden: int = 8,
        model_hidden: int = 256,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(spaces, hidden=hidden, seed=seed, dtype=dtype)
        self.model_hidden = model_hidden
        size = int(np.prod(spaces.shape))
        rng = np.random.default_rng([seed, 1])
        self._hidden = [
            Linear("/model/1", size + 1, model_hidden, rng=rng, dtype=dtype),
            Linear("/model/2", model_hidden, model_hidden, rng=rng, dtype=dtype),
        ]
        self._observation = Linear("/model/observation", model_hidden, size, rng=rng, dtype=dtype)
        self._reward = Linear("/model/reward", model_hidden, 1, rng=rng, dtype=dtype)
        # An episode is taken to end until the model has seen that it goes on.
        self._done = Linear("/model/done", model_hidden, 1, rng=rng, b=1.0, dtype=dtype)
        self.actions = pt.tensor("actions", dtype="int64", shape=(None,))

    @property
    def config(self) -> Config:
        return {**super().config, "model_hidden": self.model_hidden}

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All parameters by name: the policy's and the model's."""
        return [*self.model_parameters, *self.policy_parameters]

    @property
    def model_parameters(self) -> list[Parameter]:
        """The parameters of the model alone."""
        return find_parameters(self.imagine(self.observations, self.actions))

    def imagine(self, observations: Variable, actions: Variable) -> Imagined:
        """What actions (batch,) after observations (batch, *shape) are expected to lead to."""
        flat = pt.cast(observations, self.dtype).flatten(2)
        x = pt.concatenate([flat, pt.cast(actions, self.dtype)[:, None]], axis=1)
        for layer in self._hidden:
            x = relu(layer(x))
        expected = self._observation(x).reshape((-1, *self.spaces.shape))
        return Imagined(expected, self._reward(x)[:, 0], self._done(x)[:, 0])

    def expect(self, observation: np.ndarray, action: int) -> tuple[np.ndarray, float, float]:
        """The next observation, the reward and the probability of the end, after one action."""
        observations, rewards, done = self._compiled_model(
            observation[None], np.array([action], np.int64)
        )
        return observations[0], float(rewards[0]), float(done[0])

    @cached_property
    def _compiled_model(self) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
        seen = self.imagine(self.observations, self.actions)
        outputs = [seen.observations, seen.rewards, pt.sigmoid(seen.done)]
        compiled = function([self.observations, self.actions], outputs, name="world model")
        compiled.trust_input = True  # it is called at every step of an imagined episode
        found: Callable[[np.ndarray, np.ndarray], list[np.ndarray]] = compiled
        return found
