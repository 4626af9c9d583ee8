"""Returns: the discounted rewards that follow a step, and how much better than usual they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.errors import DlmieError
from dlmie.text import suggest

ADVANTAGES = ("episode", "batch", "time")


def discounted_returns(rewards: Sequence[float] | np.ndarray, gamma: float) -> np.ndarray:
    """``G_t = r_t + γ G_{t+1}`` for the rewards (steps,) of one episode, in float64.

    Examples
    --------
    >>> discounted_returns([1, 1, 1], 0.5).tolist()
    [1.75, 1.5, 1.0]
    """
    returns = np.empty(len(rewards))
    following = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        following = float(rewards[t]) + gamma * following
        returns[t] = following
    return returns


def normalized(values: np.ndarray) -> np.ndarray:
    """Values less their mean, divided by their standard deviation; zeros if all are equal.

    Examples
    --------
    >>> normalized(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    centered = values - values.mean()
    deviation = values.std()
    result: np.ndarray = centered / deviation if deviation > 0 else centered
    return result


def advantages(episodes: Sequence[Sequence[float]], gamma: float, kind: str) -> np.ndarray:
    """How much better than usual each step of some episodes went.

    Parameters
    ----------
    episodes : sequence of sequences
        The rewards of each.
    gamma : float
        Discount of each step.
    kind : str
        What is usual, and what differences are measured by: mean and standard deviation of the
        returns of the same "episode", of the whole "batch", or with "time" the mean of all episodes
        at the same step, measured by the standard deviation of what is left. The first makes the
        late steps of each episode bad ones, however well it went.

    Returns
    -------
    (steps of all episodes,) float64

    Raises
    ------
    DlmieError
        Another kind.
    """
    returns = [discounted_returns(rewards, gamma) for rewards in episodes]
    if kind == "episode":
        return np.concatenate([normalized(each) for each in returns])
    if kind == "batch":
        return normalized(np.concatenate(returns))
    if kind == "time":
        longest = max(map(len, returns))
        table = np.full((len(returns), longest), np.nan)
        for row, each in zip(table, returns, strict=True):
            row[: len(each)] = each
        table[np.isnan(table)] = 0.0  # an episode that has ended returns nothing more
        usual = table.mean(axis=0)
        return _scaled(np.concatenate([each - usual[: len(each)] for each in returns]))
    raise DlmieError(f"there is no advantage {kind!r}{suggest(kind, ADVANTAGES)}")


def _scaled(values: np.ndarray) -> np.ndarray:
    deviation = values.std()
    result: np.ndarray = values / deviation if deviation > 0 else values
    return result
