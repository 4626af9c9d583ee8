"""Rows of ``dlmie bench``: agents in CartPole, beside the same agents in PyTorch.

Both play in Gymnasium's environment, so a row is the time of playing and learning together: the
calls of small functions decide it. Neither is compared by its numbers, since an episode follows
from all that was drawn before it; both learn the same, and that is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.timing import Entry, race, using_threads
from dlmie.models import DQN, Policy
from dlmie.reinforcement import Environment
from dlmie.reinforcement.episodes import Player, Use
from dlmie.reinforcement.replay import Replay, Transition
from dlmie.reinforcement.returns import discounted_returns, normalized
from dlmie.reinforcement.step import AgentStep, compile

STEPS = 2000  # of the environment, in a timed run at least
_HIDDEN, _MINIBATCH, _GAMMA, _TAU = 128, 32, 0.99, 0.005
Run = Callable[[], np.ndarray]


def _player() -> Player:
    environment = Environment("CartPole-v1")
    return Player(environment.make(), environment.spaces, seed=0, use=Use.TRAINING)


def _learning(step: AgentStep, *, episodes: int) -> Run:
    """Play and learn for ``STEPS`` steps at least, with so many episodes in a batch."""
    step.progress = False
    collector = step.collector(_player())

    def run() -> np.ndarray:
        end = int(collector.steps) + STEPS
        while int(collector.steps) < end:
            step(collector.rollout(episodes))
        return np.array(int(collector.steps) - end)

    return run


def _policy() -> Run:
    step = compile(Policy(Environment("CartPole-v1").spaces, hidden=10))
    step.set_learning_rate(0.0)  # a policy that learned would play longer episodes
    return _learning(step, episodes=5)


def _torch_policy() -> Run:
    network = nn.Sequential(nn.Linear(4, 10, bias=False), nn.ReLU(), nn.Linear(10, 1, bias=False))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    player, count = _player(), iter(range(10**9))

    def episode() -> tuple[list[np.ndarray], list[int], list[float]]:
        observation, generator = player.begin(next(count))
        seen, actions, rewards, over = [], list[int](), list[float](), False
        with torch.inference_mode():
            while not over:
                logit = float(network(torch.from_numpy(observation))[0])
                action = int(generator.random() < 1 / (1 + np.exp(-logit)))
                seen.append(observation)
                actions.append(action)
                observation, reward, terminated, truncated = player.step(action)
                rewards.append(reward)
                over = terminated or truncated
        return seen, actions, rewards

    def run() -> np.ndarray:
        steps = 0
        while steps < STEPS:
            played = [episode() for _ in range(5)]
            advantages = np.concatenate(
                [normalized(discounted_returns(rewards, _GAMMA)) for _, _, rewards in played]
            )
            seen = torch.from_numpy(np.concatenate([np.stack(each[0]) for each in played]))
            actions = torch.from_numpy(np.concatenate([np.array(each[1]) for each in played]))
            logits = network(seen)[:, 0]
            losses = nn.functional.binary_cross_entropy_with_logits(
                logits, actions.float(), reduction="none"
            )
            loss = (torch.from_numpy(advantages).float() * losses).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            steps += len(actions)
        return np.array(steps)

    return run


def _dqn() -> Run:
    step = compile(
        DQN(Environment("CartPole-v1").spaces, hidden=_HIDDEN), epsilon=1.0, epsilon_last=1.0,
        minibatch=_MINIBATCH, update_every=1, random_steps=100, tau=_TAU,
    )  # fmt: skip
    return _learning(step, episodes=1)


def _torch_dqn() -> Run:
    def trunk() -> nn.Sequential:
        layers = (nn.Linear(4, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU())
        return nn.Sequential(*layers, nn.Linear(_HIDDEN, 2))

    main, target = trunk(), trunk()
    target.load_state_dict(main.state_dict())
    optimizer = torch.optim.Adam(main.parameters(), lr=1e-4, foreach=True)
    player, count = _player(), iter(range(10**9))
    memory = Replay(player.spaces, 50_000)
    following, leading = list(target.parameters()), list(main.parameters())

    def update(generator: np.random.Generator) -> None:
        arrays = memory.sample(_MINIBATCH, generator)
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        with torch.no_grad():
            best = target(batch["next_observations"]).amax(dim=1)
            aim = batch["rewards"] + _GAMMA * (1 - batch["terminated"]) * best
        values = main(batch["observations"]).gather(1, batch["actions"][:, None])[:, 0]
        loss = 0.5 * (values - aim).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(following, leading, _TAU)

    def run() -> np.ndarray:
        steps = 0
        while steps < STEPS:
            observation, generator = player.begin(next(count))
            over = False
            while not over:
                # As where ε is 1: drawn. Acting by values is timed in the other row.
                generator.random()
                action = int(generator.integers(2))
                new, reward, terminated, truncated = player.step(action)
                memory.add(Transition(observation, action, reward, new, terminated))
                observation, over, steps = new, terminated or truncated, steps + 1
                if len(memory) > 100:
                    update(generator)
        return np.array(steps)

    return run


def cartpole_policy() -> Entry:
    """REINFORCE: 2,000 steps of playing, an update after every five episodes."""
    with using_threads(1):
        return {**race(_policy(), _torch_policy()), "environment_steps": STEPS}


def cartpole_dqn() -> Entry:
    """Deep Q-learning: 2,000 steps, each with an update from 32 remembered ones."""
    with using_threads(1):
        return {**race(_dqn(), _torch_dqn()), "environment_steps": STEPS}


ROWS = {"cartpole_policy": cartpole_policy, "cartpole_dqn": cartpole_dqn}
