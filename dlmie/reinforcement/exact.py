"""Environments whose transitions are known: values and the best reward, computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gymnasium import Env

# table[state][action]: (probability, next state, reward, whether it ends there) of each outcome.
Table = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]


def transition_table(made: Env) -> Table | None:
    """The transitions of an environment that states them, as FrozenLake does; else None."""
    table: Table | None = getattr(made.unwrapped, "P", None)
    return table


def action_values(table: Table, values: np.ndarray, gamma: float) -> np.ndarray:
    """``Q(s, a) = Σ p (r + γ V(s'))`` (states, actions); an end has no value."""
    return np.array(
        [
            [
                sum(p * (reward + gamma * values[to] * (not done)) for p, to, reward, done in found)
                for found in table[state].values()
            ]
            for state in range(len(table))
        ]
    )


def value_iteration(table: Table, gamma: float, *, tolerance: float = 1e-14) -> np.ndarray:
    """The values (states, actions) of the best policy without limit of time (Bellman 1957).

    Examples
    --------
    >>> sure = {0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 1.0, True)]},
    ...         1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 1, 0.0, True)]}}
    >>> value_iteration(sure, 0.9).tolist()
    [[0.9, 1.0], [0.0, 0.0]]
    """
    values = np.zeros(len(table))
    while True:
        found = action_values(table, values, gamma)
        best = found.max(axis=1)
        if np.abs(best - values).max() <= tolerance:
            return found
        values = best


def best_reward(table: Table, starts: np.ndarray, steps: int) -> float:
    """The highest mean reward of an episode of so many steps at most.

    Parameters
    ----------
    table
    starts : (states,)
        The probability of each state at the beginning.
    steps : int
        The best action may depend on how many of them are left.
    """
    values = np.zeros(len(table))
    for _ in range(steps):
        values = action_values(table, values, 1.0).max(axis=1)
    return float(starts @ values)


def optimum(made: Env, steps: int | None) -> float | None:
    """The best mean reward that any agent can reach, where the environment states enough for it."""
    table, starts = transition_table(made), getattr(made.unwrapped, "initial_state_distrib", None)
    if table is None or starts is None or steps is None:
        return None
    return best_reward(table, np.asarray(starts), steps)
