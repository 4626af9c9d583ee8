"""What ``dlmie evaluate`` does with agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev

from dlmie.cli.console import Console
from dlmie.cli.scores import print_scores
from dlmie.text import format_table


def evaluate_agents(
    console: Console, models: Sequence[str], data: str | None, options: Mapping[str, int]
) -> None:
    """Print the rewards of agents; several side by side, with their mean and deviation.

    Parameters
    ----------
    data
        The environment; by default that of each agent.
    options
        ``episodes`` and ``seeds``.
    """
    from dlmie.reinforcement import evaluate

    scores = [evaluate(model, data, seed=console.seed, **options) for model in models]
    rows = [
        (model, f"{each.mean:.4f}", f"{each.std:.4f}", _shown(each.optimum))
        for model, each in zip(models, scores, strict=True)
    ]
    means = [each.mean for each in scores]
    rows.append(("mean ± std", f"{fmean(means):.4f}", f"± {pstdev(means):.4f} of models", ""))
    comparison = format_table(("model", "reward", "± of episodes", "optimum"), rows)
    print_scores(console, models, scores, comparison)


def _shown(optimum: float | None) -> str:
    return "" if optimum is None else f"{optimum:.4f}"
