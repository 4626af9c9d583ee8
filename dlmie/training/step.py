"""A training step: objectives and optimizers, compiled to what the loop calls for each batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable

from dlmie import optim
from dlmie.compilation import function
from dlmie.graph.network import Parameter
from dlmie.layers.noise import Noise
from dlmie.parallel import WHOLE, Shards
from dlmie.training.objective import Batch, Loss, Objective


@dataclass(frozen=True)
class StepResult:
    """What one step measured.

    Attributes
    ----------
    sums : dict of float
        Sums over the batch by name; "loss" is the first.
    weight : float
        What they are divided by.
    examples : int
        Rows of the batch.
    """

    sums: dict[str, float]
    weight: float
    examples: int


class Update:
    """One objective and the optimizer that follows it.

    Parameters
    ----------
    objective : Objective
    optimizer : Chain
        A chain of :mod:`dlmie.optim`.
    parameters : sequence of Parameter, optional
        What learns; by default what the objective says.
    name : str
        Where a step has several updates: "generator".  Its optimizer's state is named by it.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optim.Chain,
        *,
        parameters: Sequence[Parameter] | None = None,
        name: str = "",
    ) -> None:
        self.objective, self.name = objective, name
        self.optimizer = optim.chain(optimizer)
        self.given_parameters = parameters
        self._run: Callable[..., list[np.ndarray]] | None = None

    def build(self, noise: Noise) -> None:
        """Make the graphs of the loss, its gradients and the updates; nothing is compiled yet."""
        self.noise = noise
        self.loss: Loss = self.objective(self.objective.inputs, noise)
        chosen = self.given_parameters
        self.parameters = self.objective.trained(self.loss) if chosen is None else list(chosen)
        self.updates = self._updates()

    def _updates(self) -> optim.Updates:
        """What the optimizer makes of the gradients."""
        mean = self.loss.total / self.loss.weight
        return self.optimizer.updates(mean, self.parameters, name=self.name)

    def compile(self, *, progress: bool) -> None:
        """Compile the update, unless that is done; ``progress``: say so on standard error."""
        if self._run is None:
            self._run = function(
                list(self.objective.inputs.values()),
                [*self.loss.reported.values(), self.loss.weight],
                updates=[*self.updates, *self.loss.updates],
                name=f"{self.name or self.objective.name} training step",
                progress=progress,
            )

    def __call__(self, batch: Batch) -> StepResult:
        """One update."""
        arrays = self.objective.arrays(batch)
        self.compile(progress=False)
        assert self._run is not None
        *sums, weight = self._run(*arrays)
        named = dict(zip(self.loss.reported, map(float, sums), strict=True))
        return StepResult(named, float(weight), len(arrays[0]))

    @property
    def state(self) -> dict[str, SharedVariable]:
        """What the update changes, by name."""
        carried = {str(variable.name): variable for variable, _ in self.loss.updates}
        return {**{str(p.name): p for p in self.parameters}, **self.updates.state, **carried}


class TrainingStep:
    """What the loop calls for each batch: one update, or several after each other.

    A captioner or a classifier has one, a GAN two (its critic's and its generator's).

    Parameters
    ----------
    updates : Update or sequence of Update
    seed : int
        Of dropout and everything else that is random in the step.
    """

    #: The name of the task that the step belongs to.
    task: ClassVar[str] = ""
    #: What the loss is divided by, for logs: "words" where that is not the number of examples.
    unit: ClassVar[str] = "examples"
    #: Whether to say on standard error that it is being compiled.
    progress = True
    #: What it computes of each batch: see :func:`~dlmie.training.parallel.share_out`.
    shards: Shards = WHOLE

    def __init__(self, updates: Update | Sequence[Update], *, seed: int = 0) -> None:
        self.parts = [updates] if isinstance(updates, Update) else list(updates)
        self.seed, self.noise = seed, Noise(seed)
        for part in self.parts:
            part.build(self.noise)

    def __call__(self, batch: Batch) -> StepResult:
        """One update of all parts.

        The first part's loss is the step's; the sums of the others carry their names.
        """
        results = []
        for part in self.parts:
            part.compile(progress=self.progress)
            results.append(part(batch))
        first = results[0]
        sums = dict(first.sums)
        for part, result in zip(self.parts[1:], results[1:], strict=True):
            share = first.weight / max(result.weight, 1e-12)  # to one common weight
            sums |= {f"{part.name}_{name}": value * share for name, value in result.sums.items()}
        return StepResult(sums, first.weight, first.examples)

    @property
    def parameters(self) -> list[Parameter]:
        """What learns, by name."""
        return sorted(
            (p for part in self.parts for p in part.parameters), key=lambda p: str(p.name)
        )

    @property
    def state(self) -> Mapping[str, SharedVariable]:
        """Every shared variable that a checkpoint must hold, by name."""
        merged: dict[str, SharedVariable] = {}
        for part in self.parts:
            merged |= part.state
        return {**merged, "/noise/key": self.noise.key}

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averages of the weights in their place, where the optimizers keep some."""
        with contextlib.ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.updates.averaged())
            yield

    def report(self, score: float) -> None:
        """Tell schedules that wait for a plateau of a score."""
        for part in self.parts:
            part.updates.report(score)

    def set_learning_rate(self, value: float) -> None:
        """Set the peak of every part's learning rate."""
        for part in self.parts:
            part.updates.set_learning_rate(value)
