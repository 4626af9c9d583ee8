"""A memory of past steps, from which deep Q-networks learn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dlmie.models.agents.agent import Spaces
from dlmie.training.checkpoint import KeptArray, Stateful


class Transition(NamedTuple):
    """One step of an episode.

    ``terminated`` says that the environment itself ended the episode there. A step at which a time
    limit cut it off is not marked: the next state has a value.
    """

    observation: np.ndarray
    action: int
    reward: float
    next_observation: np.ndarray
    terminated: bool


class Replay:
    """The last steps, in a ring; the oldest is forgotten first.

    Parameters
    ----------
    spaces : Spaces
    capacity : int
        Steps remembered.
    dtype : str
        Of rewards and of whether it terminated.
    """

    def __init__(self, spaces: Spaces, capacity: int, dtype: str = "float32") -> None:
        kind = (capacity, *spaces.shape)
        self.arrays = {  # in the order of a transition
            "observations": np.zeros(kind, spaces.dtype),
            "actions": np.zeros(capacity, np.int64),
            "rewards": np.zeros(capacity, dtype),
            "next_observations": np.zeros(kind, spaces.dtype),
            "terminated": np.zeros(capacity, dtype),
        }
        self.capacity = capacity
        self.added = np.zeros((), np.int64)  # steps ever added

    def __len__(self) -> int:
        return min(int(self.added), self.capacity)

    def add(self, transition: Transition) -> None:
        """Remember a step."""
        place = int(self.added) % self.capacity
        for array, value in zip(self.arrays.values(), transition, strict=True):
            array[place] = value
        self.added += 1

    def sample(self, count: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Some remembered steps, each drawn from all of them."""
        places = generator.integers(len(self), size=count)
        return {name: array.take(places, axis=0) for name, array in self.arrays.items()}

    @property
    def state(self) -> dict[str, Stateful]:
        """What a checkpoint holds, by name."""
        return {
            **{f"/replay/{name}": KeptArray(array) for name, array in self.arrays.items()},
            "/replay/added": KeptArray(self.added),
        }
