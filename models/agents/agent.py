"""What all agents share: what they observe, what they can do, their parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter, find_parameters, parameter_table
from dlmie.typing import JsonObject

Config = dict[str, int | float | str | bool]


@dataclass(frozen=True)
class Spaces:
    """What an agent observes and how many actions it has.

    Attributes
    ----------
    shape : tuple of int
        Of an observation; () where observations are numbers of states.
    states : int
        How many states there are; 0 where observations are arrays.
    actions : int
        Actions are 0 .. actions - 1.
    dtype : str
        Of an observation, as it is stored.
    enlarge : int
        Of images: an observation is seen with each pixel so many times as high and wide.
    """

    shape: tuple[int, ...]
    states: int
    actions: int
    dtype: str = "float32"
    enlarge: int = 1

    @classmethod
    def from_json(cls, saved: JsonObject) -> Spaces:
        """The spaces that a file describes."""
        return cls(**{**saved, "shape": tuple(saved["shape"])})

    def to_json(self) -> JsonObject:
        """The spaces as a plain mapping."""
        return {**asdict(self), "shape": list(self.shape)}


class Agent:
    """Base of the agents.

    A subclass names itself (``kind``) and what it learns by (``objective``), creates its layers,
    implements ``scores`` and adds its options to ``config``.

    Parameters
    ----------
    spaces : Spaces
        What it observes and can do: ``Environment("CartPole-v1").spaces``.
    seed : int
        Of the first values of the parameters.
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    observations : (batch, *shape)
        The symbolic input.
    """

    #: The name of the task that trains it.
    task: ClassVar[str] = "reinforcement"
    kind: ClassVar[str]
    #: What it learns by: "q-learning", "deep-q", "policy-gradient" or "world-model".
    objective: ClassVar[str]

    def __init__(self, spaces: Spaces, *, seed: int = 0, dtype: str = "float32") -> None:
        if spaces.actions < 2:
            raise DlmieError(f"an agent needs two actions to choose from, not {spaces.actions}")
        self.spaces, self.seed, self.dtype = spaces, seed, dtype
        self.observations = self.observation_batch("observations")

    # What a subclass provides.

    @property
    def config(self) -> Config:
        """The keyword arguments that make an equal agent for the same spaces.

        A subclass adds its own.
        """
        return {"seed": self.seed, "dtype": self.dtype}

    def scores(self, observations: Variable) -> Variable:
        """What the agent thinks of each action; it does what has the highest score.

        Parameters
        ----------
        observations : (batch, *shape)

        Returns
        -------
        (batch, actions)
        """
        raise NotImplementedError

    # What every agent can do.

    def observation_batch(self, name: str) -> Variable:
        """A symbolic batch of observations."""
        return pt.tensor(name, dtype=self.spaces.dtype, shape=(None, *self.spaces.shape))

    @cached_property
    def parameters(self) -> list[Parameter]:
        """All parameters by name."""
        return find_parameters(self.scores(self.observations))

    def scores_of(self, observation: np.ndarray) -> np.ndarray:
        """The scores (actions,) of one observation, which must have the dtype of `spaces`."""
        return self._compiled_scores(observation)

    @cached_property
    def _compiled_scores(self) -> Callable[[np.ndarray], np.ndarray]:
        return self.compiled_for_one(self.scores, "scores")

    def compiled_for_one(
        self, layer: Callable[[Variable], Variable], what: str
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Compiled: what a layer gives for one observation, which must have the dtype of `spaces`.

        It is called at every step of an episode, so inputs are not checked.
        """
        one = pt.tensor("observation", dtype=self.spaces.dtype, shape=self.spaces.shape)
        compiled = function([one], layer(one[None])[0], name=f"{self.kind} {what}")
        compiled.trust_input = True
        found: Callable[[np.ndarray], np.ndarray] = compiled
        return found

    def act(self, observation: np.ndarray, generator: np.random.Generator) -> int:
        """The action with the highest score; among equal ones any."""
        return best(self.scores_of(observation), generator)

    def summary(self) -> str:
        """A table of the parameters."""
        return parameter_table(self.kind, self.parameters)


def best(scores: np.ndarray, generator: np.random.Generator) -> int:
    """The index of the highest score; among equal ones, each with the same probability.

    Examples
    --------
    >>> best(np.array([1.0, 3.0, 2.0]), np.random.default_rng(0))
    1
    """
    highest = scores.argmax()
    ties = (scores == scores[highest]).nonzero()[0]
    return int(highest if len(ties) == 1 else ties[generator.integers(len(ties))])


def needs_states(agent: str, spaces: Spaces) -> int:
    """The number of states; raises where observations are arrays."""
    if not spaces.states:
        raise DlmieError(
            f"{agent} is for environments with a few numbered states, such as FrozenLake-v1; "
            f"observations here are arrays of shape {spaces.shape}: use dqn or policy"
        )
    return spaces.states


def needs_arrays(agent: str, spaces: Spaces) -> tuple[int, ...]:
    """The shape of an observation; raises where observations are numbers of states."""
    if spaces.states:
        raise DlmieError(
            f"{agent} is for environments whose observations are arrays; here they are numbers of "
            f"{spaces.states} states: use q-table or q-network"
        )
    return spaces.shape
