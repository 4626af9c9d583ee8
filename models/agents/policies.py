"""Agents whose network gives the probabilities of actions."""

from __future__ import annotations

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
        return {"hidden": self.hidden, "seed": self.seed, "dtype": self.dtype}

    @property
    def policy_parameters(self) -> list[Parameter]:
        """The parameters of the policy alone."""
        return find_parameters(self.scores(self.observations))

    def scores(self, observations: Variable) -> Variable:
        """Logits (batch, actions): their softmax is the policy."""
        x = pt.cast(observations, self.dtype).flatten(2)
        zero = np.asarray(0, self.dtype)
        logits = self._second(pt.maximum(self._first(x), zero))
        if self.spaces.actions == 2:  # softmax(0, z) = (σ(-z), σ(z))
            return pt.concatenate([pt.zeros_like(logits), logits], axis=1)
        return logits

    def draw(self, observation: np.ndarray, generator: np.random.Generator) -> int:
        """An action, drawn with the probability that the policy gives it."""
        scores = self.scores_of(observation)
        weights = np.exp(scores - scores.max())
        sums = weights.cumsum()
        return int(sums.searchsorted(generator.random() * sums[-1], side="right"))
