"""Agents for a few numbered states: one value for each state and action."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.graph.network import parameter
from dlmie.models.agents.agent import Agent, Spaces, needs_states
from dlmie.ops.dense.embedding import embedding


class QTable(Agent):
    """The value of each action in each state: ``Q[state, action]``, zeros at first.

    Parameters
    ----------
    spaces, seed, dtype
        See :class:`~dlmie.models.agents.agent.Agent`.

    Examples
    --------
    >>> agent = QTable(Spaces((), 16, 4, "int64"))
    >>> print(agent.summary())
    q-table    shape  parameters
    /q       (16, 4)          64
    total                     64
    """

    kind = "q-table"
    objective = "q-learning"
    #: First values are uniform below this.
    highest: ClassVar[float] = 0.0

    def __init__(self, spaces: Spaces, *, seed: int = 0, dtype: str = "float64") -> None:
        super().__init__(spaces, seed=seed, dtype=dtype)
        shape = (needs_states(self.kind, spaces), spaces.actions)
        values = np.random.default_rng(seed).uniform(0, self.highest, shape)
        self.q = parameter("/q", values.astype(dtype))

    def scores(self, observations: Variable) -> Variable:
        return embedding(self.q, observations)

    def scores_of(self, observation: np.ndarray) -> np.ndarray:
        row: np.ndarray = self.q.get_value(borrow=True)[observation]  # nothing to compile
        return row


class QNetwork(QTable):
    """A linear network without bias on the one-hot state; first weights uniform below 0.01.

    A one-hot row times a matrix is a row of the matrix, so such a network is a table; what differs
    is how it begins.
    """

    kind = "q-network"
    highest = 0.01
