"""Agents whose network gives the probabilities of actions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.graph.network import Parameter, find_parameters
from dlmie.layers import Linear
from dlmie.models.agents.agent import Agent, Config, Spaces, needs_arrays


class Policy(Agent):
    """One hidden layer, no biases: ``softmax(relu(s W1) W2)``.

    With two actions there is one output, the log-odds of action 1:
    ``P(1 | s) = σ(relu(s W1) W2)``, as in the course.

    Parameters
    ----------
    spaces, seed, dtype
        See :class:`~dlmie.models.agents.agent.Agent`.
    hidden : int
        Size of the hidden layer.

    Examples
    --------
    >>> print(Policy(Spaces((4,), 0, 2)).summary())
    policy         shape  parameters
    /policy/1/W  (4, 10)          40
    /policy/2/W  (10, 1)          10
    total                         50
    """

    kind = "policy"
    objective = "policy-gradient"

    def __init__(
        self, spaces: Spaces, *, hidden: int = 10, seed: int = 0, dtype: str = "float32"
    ) -> None:
        super().__init__(spaces, seed=seed, dtype=dtype)
        inputs = int(np.prod(needs_arrays(self.kind, spaces)))
        self.hidden = hidden
        outputs = 1 if spaces.actions == 2 else spaces.actions
        rng = np.random.default_rng(seed)
        self._first = Linear("/policy/1", inputs, hidden, rng=rng, b=None, dtype=dtype)
        self._second = Linear("/policy/2", hidden, outputs, rng=rng, b=None, dtype=dtype)

    @property
    def config(self) -> Config:
        return {"hidden": self.hidden, **super().config}

    @property
    def policy_parameters(self) -> list[Parameter]:
        """The parameters of the policy alone."""
        return find_parameters(self.scores(self.observations))

    def scores(self, observations: Variable) -> Variable:
        """Logits (batch, actions): their softmax is the policy."""
        outputs = self._outputs(observations)
        if self.spaces.actions == 2:  # softmax(0, z) = (σ(-z), σ(z))
            return pt.concatenate([pt.zeros_like(outputs), outputs], axis=1)
        return outputs

    def _outputs(self, observations: Variable) -> Variable:
        """What the second layer gives: (batch, 1) of two actions, else (batch, actions)."""
        x = pt.cast(observations, self.dtype).flatten(2)
        return self._second(pt.maximum(self._first(x), np.asarray(0, self.dtype)))

    @cached_property
    def _compiled_outputs(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.compiled_for_one(self._outputs, "log-odds")

    def draw(self, observation: np.ndarray, generator: np.random.Generator) -> int:
        """An action, drawn with the probability that the policy gives it."""
        if self.spaces.actions == 2:
            odds = float(self._compiled_outputs(observation)[0])
            return int(generator.random() * (1 + math.exp(min(-odds, 700.0))) < 1)
        scores = self.scores_of(observation)
        weights = np.exp(scores - scores.max())
        sums = weights.cumsum()
        return int(sums.searchsorted(generator.random() * sums[-1], side="right"))
