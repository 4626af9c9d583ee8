"""Rollouts: episodes that are played while they are learned from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from dlmie.models.agents.agent import Agent, best
from dlmie.models.agents.policies import Policy
from dlmie.models.agents.world_model import WorldModel
from dlmie.reinforcement.episodes import Player
from dlmie.reinforcement.options import (
    DeepQOptions,
    PolicyGradientOptions,
    QLearningOptions,
    WorldModelOptions,
)
from dlmie.reinforcement.replay import Replay, Transition
from dlmie.reinforcement.returns import advantages
from dlmie.training.checkpoint import KeptArray, Stateful

_STARTS = 100  # real episodes whose beginnings imagined ones may have

#: The name of the update that learns from a batch, and the batch.
NamedBatch = tuple[str, Mapping[str, np.ndarray]]


class Rollout:
    """Some episodes: iterating plays them, and hands over the batches that are learned from.

    The next step is played when the next batch is asked for, so it follows what was learned.
    """

    def __init__(self, batches: Callable[[Rollout], Iterator[NamedBatch]]) -> None:
        self._batches = batches
        self.rewards: list[float] = []
        self.lengths: list[int] = []

    def __iter__(self) -> Iterator[NamedBatch]:
        return self._batches(self)

    def __getitem__(self, name: str) -> np.ndarray:
        """``"rewards"`` and ``"lengths"`` of the episodes that were played (episodes,)."""
        return {"rewards": np.array(self.rewards), "lengths": np.array(self.lengths)}[name]

    def ended(self, reward: float, length: int) -> None:
        """Note a finished episode."""
        self.rewards.append(reward)
        self.lengths.append(length)


class Collector:
    """Base of those that play episodes with an agent, and make batches of them.

    Parameters
    ----------
    player : Player
    """

    def __init__(self, player: Player) -> None:
        self.player = player
        self.episodes = np.zeros((), np.int64)  # that were played
        self.steps = np.zeros((), np.int64)  # in all of them

    def rollout(self, episodes: int) -> Rollout:
        """So many episodes, not yet played."""
        return Rollout(lambda rollout: self._batches(rollout, episodes))

    def _batches(self, rollout: Rollout, episodes: int) -> Iterator[NamedBatch]:
        raise NotImplementedError

    @property
    def state(self) -> dict[str, Stateful]:
        """What a checkpoint between two rollouts holds, by name."""
        return {
            "/agent/episodes": KeptArray(self.episodes),
            "/agent/steps": KeptArray(self.steps),
        }


class QCollector(Collector):
    """Hands over each step at once.

    Parameters
    ----------
    agent : Agent
    player : Player
    options : QLearningOptions
    """

    def __init__(self, agent: Agent, player: Player, options: QLearningOptions) -> None:
        super().__init__(player)
        self.agent, self.options = agent, options

    def _batches(self, rollout: Rollout, episodes: int) -> Iterator[NamedBatch]:
        for _ in range(episodes):
            yield from self._episode(rollout)

    def _episode(self, rollout: Rollout) -> Iterator[NamedBatch]:
        player, begun = self.player, int(self.steps)
        observation, generator = player.begin(int(self.episodes))
        noise = self.options.value_noise / (int(self.episodes) + 1)
        total, steps, over = 0.0, 0, False
        while not over:
            action = self._action(observation, generator, begun + steps, noise)
            following, reward, terminated, truncated = player.step(action)
            steps += 1
            total, over = total + reward, terminated or truncated
            seen = Transition(observation, action, reward, following, terminated)
            batch = self._step_batch(seen, begun + steps, generator)
            if batch is not None:
                yield "", batch
            observation = following
        self.episodes += 1
        self.steps += steps
        rollout.ended(total, steps)

    def _action(
        self, observation: np.ndarray, generator: np.random.Generator, step: int, noise: float
    ) -> int:
        epsilon = self.epsilon(step)
        if epsilon and generator.random() < epsilon:
            return int(generator.integers(self.agent.spaces.actions))
        if noise:
            scores = self.agent.scores_of(observation)
            return best(scores + noise * generator.standard_normal(len(scores)), generator)
        return self.agent.act(observation, generator)

    def epsilon(self, step: int) -> float:
        """The share of random actions after so many steps."""
        options = self.options
        way = min(step / options.epsilon_steps, 1.0)
        return options.epsilon + way * (options.epsilon_last - options.epsilon)

    def _step_batch(
        self, seen: Transition, step: int, generator: np.random.Generator
    ) -> Mapping[str, np.ndarray] | None:
        """What is learned from after so many steps, the last of which is given; None: nothing."""
        real = self.agent.dtype
        return {
            "observations": seen.observation[None],
            "actions": np.array([seen.action]),
            "rewards": np.array([seen.reward], real),
            "next_observations": seen.next_observation[None],
            "terminated": np.array([seen.terminated], real),
        }


class ReplayCollector(QCollector):
    """Remembers each step, and hands over some that are drawn from all remembered.

    Parameters
    ----------
    agent : DQN
    player : Player
    options : DeepQOptions
    """

    options: DeepQOptions

    def __init__(self, agent: Agent, player: Player, options: DeepQOptions) -> None:
        super().__init__(agent, player, options)
        self.replay = Replay(agent.spaces, options.memory, dtype=agent.dtype)

    def epsilon(self, step: int) -> float:
        """The share of random actions after so many steps; of the first ones all."""
        since = step - self.options.random_steps
        return 1.0 if since < 0 else super().epsilon(since)

    def _step_batch(
        self, seen: Transition, step: int, generator: np.random.Generator
    ) -> Mapping[str, np.ndarray] | None:
        options = self.options
        self.replay.add(seen)
        due = step > options.random_steps and step % options.update_every == 0
        if not due or len(self.replay) < options.minibatch:
            return None
        return self.replay.sample(options.minibatch, generator)

    @property
    def state(self) -> dict[str, Stateful]:
        return {**super().state, **self.replay.state}


class Episode:
    """The steps of one episode."""

    def __init__(self, first: np.ndarray) -> None:
        self.observations, self.actions = [first], list[int]()
        self.rewards, self.terminated = list[float](), False

    def add(self, action: int, reward: float, observation: np.ndarray) -> None:
        """Add a step."""
        self.actions.append(action)
        self.rewards.append(reward)
        self.observations.append(observation)


class PolicyCollector(Collector):
    """Plays with the policy as it is, and hands over all episodes together.

    Parameters
    ----------
    agent : Policy
    player : Player
    options : PolicyGradientOptions
    """

    def __init__(self, agent: Policy, player: Player, options: PolicyGradientOptions) -> None:
        super().__init__(player)
        self.agent, self.options = agent, options

    def _batches(self, rollout: Rollout, episodes: int) -> Iterator[NamedBatch]:
        played = [self._episode(rollout) for _ in range(episodes)]
        yield "", self._batch(played)

    def _episode(self, rollout: Rollout) -> Episode:
        observation, generator = self.player.begin(int(self.episodes))
        episode, over = Episode(observation), False
        draw, step = self.agent.draw, self.player.step
        while not over:
            action = draw(observation, generator)
            observation, reward, terminated, truncated = step(action)
            episode.add(action, reward, observation)
            over = terminated or truncated
        episode.terminated = terminated
        self.episodes += 1
        self.steps += len(episode.actions)
        rollout.ended(sum(episode.rewards), len(episode.actions))
        return episode

    def _batch(self, played: Sequence[Episode]) -> dict[str, np.ndarray]:
        options = self.options
        values = advantages([e.rewards for e in played], options.gamma, options.advantage)
        return {
            "observations": np.concatenate([np.stack(e.observations[:-1]) for e in played]),
            "actions": np.concatenate([np.array(e.actions) for e in played]),
            "advantages": values.astype(self.agent.dtype),
        }


class WorldModelCollector(PolicyCollector):
    """Real episodes for the model, then imagined ones for the policy, in turn.

    Until ``model_episodes`` were played, only the model learns. Imagined episodes begin where real
    ones began, and what the model expects is kept within what was ever seen: a prediction that runs
    away would be rewarded for it.

    Parameters
    ----------
    agent : WorldModel
    player : Player
    options : WorldModelOptions
    """

    agent: WorldModel
    options: WorldModelOptions

    def __init__(self, agent: WorldModel, player: Player, options: WorldModelOptions) -> None:
        super().__init__(agent, player, options)
        shape, dtype = agent.spaces.shape, agent.spaces.dtype
        self._starts = np.zeros((_STARTS, *shape), dtype)  # of the last real episodes
        self._range = np.zeros((2, *shape), dtype)  # lowest and highest that was observed
        self._rewards = np.zeros(2)

    def _batches(self, rollout: Rollout, episodes: int) -> Iterator[NamedBatch]:
        played = [self._episode(rollout) for _ in range(episodes)]
        for number, episode in enumerate(played, int(self.episodes) - episodes):
            self._see(number, episode)
        yield "model", self._steps(played)
        if int(self.episodes) > self.options.model_episodes:
            generator = np.random.default_rng([int(self.episodes), int(self.steps)])
            yield "policy", self._batch([self._imagined(generator) for _ in range(episodes)])

    def _see(self, number: int, episode: Episode) -> None:
        """Remember where an episode began, and the range of what was seen in it."""
        self._starts[number % _STARTS] = episode.observations[0]
        for known, new in ((self._range, episode.observations), (self._rewards, episode.rewards)):
            low, high = np.min(new, axis=0), np.max(new, axis=0)
            known[0] = np.minimum(known[0], low) if number else low
            known[1] = np.maximum(known[1], high) if number else high

    def _steps(self, played: Sequence[Episode]) -> dict[str, np.ndarray]:
        real = self.agent.dtype
        ends = [np.zeros(len(e.actions), real) for e in played]
        for end, episode in zip(ends, played, strict=True):
            end[-1] = episode.terminated
        return {
            "observations": np.concatenate([np.stack(e.observations[:-1]) for e in played]),
            "actions": np.concatenate([np.array(e.actions) for e in played]),
            "next_observations": np.concatenate([np.stack(e.observations[1:]) for e in played]),
            "rewards": np.concatenate([np.array(e.rewards, real) for e in played]),
            "terminated": np.concatenate(ends),
        }

    def _imagined(self, generator: np.random.Generator) -> Episode:
        known = min(int(self.episodes), _STARTS)
        observation = self._starts[generator.integers(known)]
        episode = Episode(observation)
        for _ in range(self.options.imagined_steps):
            action = self.agent.draw(observation, generator)
            observation, reward, done = self.agent.expect(observation, action)
            observation = observation.clip(*self._range).astype(self.agent.spaces.dtype)
            episode.add(action, float(np.clip(reward, *self._rewards)), observation)
            if done > self.options.done_threshold:
                break
        return episode

    @property
    def state(self) -> dict[str, Stateful]:
        return {
            **super().state,
            "/world/starts": KeptArray(self._starts),
            "/world/range": KeptArray(self._range),
            "/world/rewards": KeptArray(self._rewards),
        }
