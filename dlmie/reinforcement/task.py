"""Reinforcement learning as training sees it: environments, steps, scores, the agent kept."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

from dlmie import optim
from dlmie.errors import DlmieError
from dlmie.models import registry as models
from dlmie.models.agents.agent import Agent
from dlmie.reinforcement.environments.environment import Environment
from dlmie.reinforcement.episodes import Player, Use, greedy_rewards
from dlmie.reinforcement.evaluation import check_fits
from dlmie.reinforcement.model_files import save_model
from dlmie.reinforcement.options import ReinforcementOptions
from dlmie.reinforcement.rollouts import Collector, Rollout
from dlmie.reinforcement.step import AgentStep, compile
from dlmie.training.config import DataSource, RunConfig, TrainingOptions
from dlmie.training.loop import Record
from dlmie.training.metric import LOSS, Metric
from dlmie.training.task import Session, Task, model_meta
from dlmie.training.versions import versions
from dlmie.typing import JsonObject


class Rollouts:
    """The rollouts of an epoch from some number on; each is played while it is learned from."""

    def __init__(self, collector: Collector, options: ReinforcementOptions, start: int) -> None:
        self._collector, self._options, self._start = collector, options, start

    def __len__(self) -> int:
        return self._options.rollouts

    def __iter__(self) -> Iterator[Rollout]:
        episodes, batch = self._options.episodes, self._options.batch
        for number in range(self._start, len(self)):
            yield self._collector.rollout(min(batch, episodes - number * batch))


class Reinforcement(Task[Environment, AgentStep]):
    """Agents trained in environments."""

    name: ClassVar[str] = "reinforcement"
    options: ClassVar[type[TrainingOptions]] = ReinforcementOptions
    metrics: ClassVar[tuple[Metric, ...]] = (Metric("reward"), Metric("train_reward"), LOSS)
    tie_breaker: ClassVar[Metric] = metrics[1]  # the reward while learning

    def compile(
        self,
        model: Agent,
        optimizer: optim.Chain | optim.Transform | None = None,
        *,
        objective: str | None = None,
        seed: int = 0,
        **options: object,
    ) -> AgentStep:
        return compile(model, optimizer, objective=objective, seed=seed, **options)

    def open(self, path: str | Path) -> Environment:
        return Environment(path)

    def check(self, options: TrainingOptions, data: Environment) -> None:
        """As :meth:`Task.check`."""
        super().check(options, data)
        if options.limit is not None:
            raise DlmieError("limit is for images; the number of episodes is that of --episodes")

    def configure(
        self,
        step: AgentStep,
        data: Environment,
        meta: JsonObject,
        *,
        progress: bool,
        **options: object,
    ) -> tuple[RunConfig, Session]:
        """As :meth:`Task.configure`."""
        chosen = ReinforcementOptions.of(options)
        self.check(chosen, data)
        models.check_registered(step.agent, "agent")
        check_fits(step.agent, data)
        config = RunConfig(
            task=self.name,
            model={"kind": step.agent.kind, "config": step.agent.config},
            objective=step.describe(),
            optimizer=step.optimizer.to_json(),
            data=DataSource(str(data.path), data.hash),
            training=chosen,
            inputs={},
            meta={**meta, "versions": versions()},
        )
        return config, self.session(config, step, data, progress=progress)

    def steps_per_epoch(self, options: TrainingOptions, data: Environment) -> int:
        """As :meth:`Task.steps_per_epoch`; how many updates a rollout has is not known before."""
        assert isinstance(options, ReinforcementOptions)
        return options.rollouts

    def build(self, config: RunConfig, data: Environment) -> AgentStep:
        make = models.model_class(config.model["kind"], "agent")
        agent = make(data.spaces, **config.model["config"])
        optimizer = optim.from_json(config.optimizer)
        return self.compile(agent, optimizer, **config.objective_arguments)

    def session(
        self, config: RunConfig, step: AgentStep, data: Environment, *, progress: bool
    ) -> Session:
        options = config.training
        assert isinstance(options, ReinforcementOptions)
        player = Player(data.make(), data.spaces, seed=options.seed, use=Use.TRAINING)
        collector = step.collector(player)
        return Session(
            batches=lambda epoch, start: Rollouts(collector, options, start),
            measure=partial(_measure, step, data, options),
            save_best=partial(_save_best, step, config, data),
            state=collector.state,
        )


TASK = Reinforcement()


def _measure(step: AgentStep, data: Environment, options: ReinforcementOptions) -> dict[str, float]:
    """The mean reward of greedy episodes, with averaged weights."""
    made = data.make()
    try:
        with step.averaged():
            rewards = greedy_rewards(
                step.agent, made, episodes=options.test_episodes, seed=options.seed, use=Use.DEV
            )
    finally:
        made.close()
    return {"reward": float(rewards.mean())}


def _save_best(
    step: AgentStep, config: RunConfig, data: Environment, path: Path, record: Record
) -> None:
    """Write the agent as it is now, with averaged weights where the optimizer keeps some."""
    with step.averaged():
        save_model(step.agent, path, environment=data.name, meta=model_meta(config, record))
