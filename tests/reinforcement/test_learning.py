"""What agents learn from, without waiting for what they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium")

from agent_cases import ID, SPACES, make_step

import dlmie
from dlmie.errors import DlmieError
from dlmie.models import Policy, QTable
from dlmie.models.agents.agent import Spaces, best
from dlmie.reinforcement import Environment
from dlmie.reinforcement.episodes import Player, Use
from dlmie.reinforcement.options import DeepQOptions, QLearningOptions
from dlmie.reinforcement.replay import Replay, Transition
from dlmie.reinforcement.returns import advantages
from dlmie.reinforcement.rollouts import QCollector, ReplayCollector
from dlmie.reinforcement.step import compile

LINE = Spaces((1,), 0, 2, "float32")


class Script:
    """An environment that does as it is told: so many steps, then an end of a kind."""

    def __init__(self, *, terminated: bool, truncated: bool, steps: int = 3) -> None:
        self.end, self.steps = (terminated, truncated), steps
        self.unwrapped = self

    def reset(self, seed: int) -> Any:
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.count += 1
        end = self.end if self.count == self.steps else (False, False)
        return np.full(1, self.count, np.float32), 1.0, *end, {}


def player(**options: Any) -> Player:
    return Player(Script(**options), LINE, seed=0, use=Use.TRAINING)


@pytest.mark.parametrize(("terminated", "truncated"), [(True, False), (False, True), (True, True)])
def test_the_memory_knows_ends_of_the_environment_alone(terminated: bool, truncated: bool) -> None:
    """A step at which a time limit cut the episode off still has a next value."""
    options = DeepQOptions(memory=10, random_steps=100)
    collector = ReplayCollector(
        Policy(LINE), player(terminated=terminated, truncated=truncated), options
    )
    assert list(collector.rollout(1)) == []
    stored = collector.replay.arrays
    assert stored["terminated"][:3].tolist() == [0, 0, float(terminated)]
    assert stored["observations"][:3, 0].tolist() == [0, 1, 2]
    assert stored["next_observations"][:3, 0].tolist() == [1, 2, 3]


def test_worldnavigate_always_bootstraps() -> None:
    environment = Environment("WorldNavigate-v0")
    agent = Policy(environment.spaces)
    options = DeepQOptions(memory=200, random_steps=1000)
    playing = Player(environment.make(), environment.spaces, seed=0, use=Use.TRAINING)
    collector = ReplayCollector(agent, playing, options)
    list(collector.rollout(2))
    assert len(collector.replay) == 100
    assert not collector.replay.arrays["terminated"].any()


def test_the_memory_forgets_the_oldest() -> None:
    memory = Replay(LINE, 3)
    for number in range(5):
        memory.add(Transition(np.full(1, number), 0, 0.0, np.full(1, number + 1), False))
    assert len(memory) == 3
    assert sorted(memory.arrays["observations"][:, 0].tolist()) == [2, 3, 4]
    drawn = memory.sample(50, np.random.default_rng(0))
    assert set(drawn["observations"][:, 0]) == {2, 3, 4}
    np.testing.assert_array_equal(drawn["next_observations"], drawn["observations"] + 1)


def test_updates_begin_after_the_random_steps_and_come_every_so_often() -> None:
    options = DeepQOptions(memory=50, random_steps=8, update_every=4, minibatch=2)
    playing = player(terminated=True, truncated=False, steps=20)
    collector = ReplayCollector(Policy(LINE), playing, options)
    steps = []
    for _ in collector.rollout(1):
        steps.append(playing.made.count)
    assert steps == [12, 16, 20]


def test_epsilon_falls_after_the_random_steps() -> None:
    options = DeepQOptions(random_steps=100, epsilon=0.8, epsilon_last=0.2, epsilon_steps=10)
    collector = ReplayCollector(Policy(LINE), player(terminated=True, truncated=False), options)
    assert [collector.epsilon(step) for step in (0, 99)] == [1.0, 1.0]
    found = [collector.epsilon(step) for step in (100, 105, 110, 999)]
    assert found == pytest.approx([0.8, 0.5, 0.2, 0.2])


def test_each_step_follows_what_was_learned_before_it() -> None:
    """A rollout is played while it is learned from."""
    agent = QTable(Spaces((), 4, 2, "int64"))

    class Line(Script):
        def reset(self, seed: int) -> Any:
            super().reset(seed)
            return 0, {}

        def step(self, action: int) -> Any:
            self.actions.append(action)
            found = super().step(action)
            return 0, *found[1:]

        actions: list[int] = []  # noqa: RUF012

    made = Line(terminated=True, truncated=False, steps=4)
    playing = Player(made, agent.spaces, seed=0, use=Use.TRAINING)
    options = QLearningOptions(epsilon=0.0, epsilon_last=0.0)
    for number, _ in enumerate(QCollector(agent, playing, options).rollout(1)):
        agent.q.set_value(np.eye(2)[[number % 2] * 4])
    assert made.actions[1:] == [0, 1, 0]


def test_ties_are_broken_at_random() -> None:
    generator = np.random.default_rng(0)
    drawn = {best(np.array([1.0, 0.0, 1.0, 1.0]), generator) for _ in range(50)}
    assert drawn == {0, 2, 3}


def test_advantages() -> None:
    episodes = [[1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    alone, batch, time = (advantages(episodes, 1.0, kind) for kind in ("episode", "batch", "time"))
    assert alone[:2].tolist() == [1.0, -1.0]  # however long the episode was
    assert batch.mean() == pytest.approx(0)
    assert batch.std() == pytest.approx(1)
    assert batch[0] == batch[4]
    assert time[0] < 0 < time[2]  # the shorter one was worse than usual from the beginning on
    with pytest.raises(DlmieError, match="no advantage 'epsiode'; did you mean 'episode'"):
        advantages(episodes, 1.0, "epsiode")


def test_draws_have_the_probabilities_of_the_policy() -> None:
    for actions in (2, 3):
        agent = Policy(Spaces((2,), 0, actions), seed=1)
        observation = np.array([0.7, -1.1], np.float32)
        scores = agent.scores_of(observation).astype("float64")
        expected = np.exp(scores) / np.exp(scores).sum()
        generator = np.random.default_rng(0)
        drawn = np.bincount([agent.draw(observation, generator) for _ in range(4000)])
        np.testing.assert_allclose(drawn / 4000, expected, atol=0.03)


@pytest.fixture(scope="module")
def corridor() -> Environment:
    return Environment(ID)


def learn(kind: str, corridor: Environment, rollouts: int, episodes: int) -> Any:
    step = make_step(kind)
    playing = Player(corridor.make(), SPACES, seed=0, use=Use.TRAINING)
    collector = step.collector(playing)
    results = [step(collector.rollout(episodes)) for _ in range(rollouts)]
    return step, results


def test_the_target_network_follows_and_nothing_else_moves_it(corridor: Environment) -> None:
    step, _ = learn("dqn", corridor, 2, 1)
    agent = step.agent
    before = [p.get_value().copy() for p in agent.target_parameters]
    memory = Replay(SPACES, 8)
    for number in range(8):
        memory.add(Transition(np.full(2, number / 8), 1, 1.0, np.full(2, number / 9), False))
    step.parts[0](memory.sample(8, np.random.default_rng(0)))
    for old, target, main in zip(
        before, agent.target_parameters, step.parts[0].parameters, strict=True
    ):
        new = main.get_value()
        np.testing.assert_allclose(
            target.get_value(), 0.05 * new + 0.95 * old, rtol=2e-6, atol=1e-7
        )
        assert (new != old).any()


def test_a_policy_learns(corridor: Environment) -> None:
    _, results = learn("policy", corridor, 30, 5)
    rewards = [result.sums["train_reward"] / result.weight for result in results]
    assert np.mean(rewards[-5:]) > 0.7
    assert np.mean(rewards[:3]) < 0.6


def test_an_agent_of_ones_own(corridor: Environment, tmp_path: Path) -> None:
    class Mine(Policy):
        kind = "mine"

    step = compile(Mine(SPACES, hidden=3))
    assert (step.kind, step.optimizer.to_json()[0]["transform"]) == ("policy-gradient", "adam")
    with pytest.raises(DlmieError, match=r"register it, dlmie\.register\(Mine\)"):
        dlmie.train(step, corridor, to=tmp_path / "run", progress=False)


def test_unknown_choices() -> None:
    with pytest.raises(DlmieError, match="no option 'gama'; did you mean 'gamma'"):
        compile(QTable(Spaces((), 4, 2, "int64")), gama=0.5)
    with pytest.raises(DlmieError, match="q-table learns by q-learning, not by deep-q"):
        compile(QTable(Spaces((), 4, 2, "int64")), objective="deep-q")
