"""Training steps of agents: a rollout is played and learned from."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytensor
from pytensor.graph.basic import Variable

from dlmie import optim
from dlmie.backends.choice import refuse_jax
from dlmie.errors import DlmieError
from dlmie.layers.noise import Noise
from dlmie.models.agents.agent import Agent
from dlmie.models.agents.deep_q import DQN
from dlmie.models.agents.policies import Policy
from dlmie.models.agents.world_model import WorldModel
from dlmie.models.recipes import recipe, recipe_of
from dlmie.reinforcement.episodes import Player
from dlmie.reinforcement.objectives import PolicyGradient, Prediction, QLearning
from dlmie.reinforcement.options import (
    OBJECTIVES,
    DeepQOptions,
    PolicyGradientOptions,
    QLearningOptions,
    WorldModelOptions,
)
from dlmie.reinforcement.rollouts import (
    Collector,
    PolicyCollector,
    QCollector,
    ReplayCollector,
    Rollout,
    WorldModelCollector,
)
from dlmie.training.config import OptionGroup
from dlmie.training.objective import Batch
from dlmie.training.optimizer_options import OptimizerOptions
from dlmie.training.step import StepResult, TrainingStep, Update
from dlmie.typing import JsonObject


class QUpdate(Update):
    """An update after which the target network, where there is one, follows the main one.

    ``θ' ← τ θ + (1 - τ) θ'`` with the new θ (Lillicrap et al. 2016).
    """

    def __init__(self, objective: QLearning, optimizer: optim.Chain) -> None:
        super().__init__(objective, optimizer)
        self.agent, self.options = objective.agent, objective.options

    def build(self, noise: Noise) -> None:
        super().build(noise)
        if not isinstance(self.agent, DQN) or not isinstance(self.options, DeepQOptions):
            return
        new = dict(self.updates)
        following = [
            (target, soft_update(target, new[main], self.options.tau))
            for target, main in zip(self.agent.target_parameters, self.parameters, strict=True)
        ]
        self.loss = replace(self.loss, updates=following)

    def compile(self, *, progress: bool) -> None:
        super().compile(progress=progress)
        # It runs at every step of the environment, on arrays that are of the right types.
        self._run.trust_input = True  # type: ignore[union-attr]


def soft_update(target: Variable, main: Variable, tau: float) -> Variable:
    """``τ main + (1 - τ) target``."""
    share = pytensor.tensor.constant(tau, dtype=target.type.dtype)
    one = pytensor.tensor.constant(1, dtype=target.type.dtype)
    return share * main + (one - share) * target


class AgentStep(TrainingStep):
    """A rollout is played and learned from; made by :func:`compile`.

    Attributes
    ----------
    agent : Agent
    kind : str
        Of the objective.
    options : OptionGroup
        Of the objective, as a run's configuration has them.
    optimizer : Chain
    """

    task: ClassVar[str] = "reinforcement"
    unit: ClassVar[str] = "episodes"

    def __init__(
        self, agent: Agent, optimizer: optim.Chain, *, kind: str, options: OptionGroup, seed: int
    ) -> None:
        self.agent, self.kind, self.options, self.optimizer = agent, kind, options, optimizer
        super().__init__(_updates(agent, optimizer, options), seed=seed)
        self._by_name = {part.name: part for part in self.parts}

    def __call__(self, batch: Batch) -> StepResult:
        """Play a rollout and learn from all that it hands over.

        The loss is the mean of its updates.
        """
        assert isinstance(batch, Rollout)
        losses: dict[str, list[float]] = {}
        for name, arrays in batch:
            part = self._by_name[name]
            part.compile(progress=self.progress)
            result = part(arrays)
            losses.setdefault(name, []).append(result.sums["loss"] / result.weight)
        episodes = len(batch.rewards)
        means = {name: sum(found) / len(found) for name, found in losses.items()}
        sums = {"loss": means.get(self.parts[0].name, 0.0)}
        for part in self.parts[1:]:
            sums[f"{part.name}_loss"] = means.get(part.name, 0.0)
        sums = {name: mean * episodes for name, mean in sums.items()}
        sums["train_reward"], sums["length"] = sum(batch.rewards), float(sum(batch.lengths))
        return StepResult(sums, float(episodes), episodes)

    def collector(self, player: Player) -> Collector:
        """What plays for this step."""
        agent, options = self.agent, self.options
        if isinstance(options, DeepQOptions):
            return ReplayCollector(agent, player, options)
        if isinstance(options, QLearningOptions):
            return QCollector(agent, player, options)
        if isinstance(options, WorldModelOptions):
            assert isinstance(agent, WorldModel)
            return WorldModelCollector(agent, player, options)
        assert isinstance(options, PolicyGradientOptions)
        assert isinstance(agent, Policy)
        return PolicyCollector(agent, player, options)

    def describe(self) -> JsonObject:
        """The section ``objective`` of a run's configuration."""
        return {"kind": self.kind, "seed": self.seed, **self.options.to_json()}


def _updates(agent: Agent, optimizer: optim.Chain, options: OptionGroup) -> list[Update]:
    """What learns from rollouts, and how."""
    if isinstance(options, QLearningOptions):
        return [QUpdate(QLearning(agent, options), optimizer)]
    assert isinstance(agent, Policy)
    if not isinstance(agent, WorldModel):
        return [Update(PolicyGradient(agent), optimizer)]
    learned = agent.policy_parameters
    return [
        Update(PolicyGradient(agent), optimizer, parameters=learned, name="policy"),
        Update(Prediction(agent), optimizer, name="model"),
    ]


def compile(
    agent: Agent,
    optimizer: optim.Chain | optim.Transform | None = None,
    *,
    objective: str | None = None,
    seed: int = 0,
    **options: object,
) -> AgentStep:
    """Make a training step for an agent, compiled when it is first called.

    Parameters
    ----------
    agent : Agent
    optimizer : Chain, optional
        A chain of :mod:`dlmie.optim`; by default that of the agent's recipe, or Adam with a
        learning rate of 1e-3 for a class of one's own.
    objective : str, optional
        "q-learning", "deep-q", "policy-gradient" or "world-model"; by default the agent's own, the
        only one that fits.
    seed : int
    **options
        Fields of the objective's options: :mod:`dlmie.reinforcement.options`.

    Raises
    ------
    DlmieError
        An unknown option, or an objective of another kind of agent.
    """
    refuse_jax("training an agent")
    kind = agent.objective
    if objective is not None and objective != kind:
        raise DlmieError(f"{agent.kind} learns by {kind}, not by {objective}")
    chosen = OBJECTIVES[kind].of(options)
    chain = _usual_optimizer(agent) if optimizer is None else optim.chain(optimizer)
    return AgentStep(agent, chain, kind=kind, options=chosen, seed=seed)


def _usual_optimizer(agent: Agent) -> optim.Chain:
    """That of the agent's recipe; of an agent that has none, Adam."""
    name = recipe_of(agent.kind)
    if name is None:
        return optim.chain(optim.adam(1e-3))
    options = OptimizerOptions.of(recipe(name)["optimizer"])
    return optim.from_json(options.chain(steps_per_epoch=1, epochs=1, higher_is_better=True))
