"""What training minimizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from dlmie.graph.network import Parameter, find_parameters
from dlmie.layers.noise import Noise


class Batch(Protocol):
    """Named arrays: ``batch["images"]``."""

    def __getitem__(self, name: str, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Loss:
    """What a batch costs, symbolically.

    Attributes
    ----------
    total : scalar variable
        Summed over the batch; ``total / weight`` is minimized.
    weight : scalar variable
        What the sum is divided by: the number of examples, or of words.
    metrics : mapping
        Further sums over the batch by name, scalars, reported divided by ``weight``.  One that is
        named "loss" is reported instead of ``total``: the likelihood without its penalties.
    updates : sequence of pairs
        (shared variable, new value) that go with a step: running statistics of batch
        normalization, a baseline.
    """

    total: Variable
    weight: Variable
    metrics: Mapping[str, Variable] = field(default_factory=dict)
    updates: Sequence[tuple[SharedVariable, Variable]] = ()

    @property
    def reported(self) -> dict[str, Variable]:
        """The sums that a step returns, "loss" first."""
        return {"loss": self.total, **self.metrics}


class Objective:
    """From the symbolic arrays of a batch to what they cost.

    A subclass says what it reads of a batch (`inputs`) and what that costs (`__call__`).
    """

    #: What progress lines call it.
    name = "the"

    @property
    def inputs(self) -> Mapping[str, Variable]:
        """Symbolic inputs by the names that the arrays of a batch have."""
        raise NotImplementedError

    def __call__(self, batch: Mapping[str, Variable], noise: Noise) -> Loss:
        """The loss of a batch; ``noise`` is where dropout and sampling come from."""
        raise NotImplementedError

    def trained(self, loss: Loss) -> list[Parameter]:
        """What learns: the trainable parameters that the loss depends on."""
        return find_parameters(loss.total, "trainable")

    def arrays(self, batch: Batch) -> Sequence[np.ndarray]:
        """The values of `inputs` for a batch: its arrays, unless something is made of them."""
        return [batch[name] for name in self.inputs]
