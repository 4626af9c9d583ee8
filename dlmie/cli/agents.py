"""What ``dlmie evaluate`` does with agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
import numpy as np

from dlmie.cli.console import Console
from dlmie.cli.options import given
from dlmie.text import format_table


def are_agents(models: Sequence[str]) -> bool:
    """Whether models are agents; agents and others together are an error."""
    from dlmie.trained import is_agent

    kinds = {is_agent(model) for model in models}
    if len(kinds) > 1:
        raise click.UsageError("evaluate agents and other models one after the other")
    return kinds.pop()


def evaluate_agents(
    console: Console, models: Sequence[str], data: str | None, options: Mapping[str, int]
) -> None:
    """Print what agents are rewarded with; several side by side, with mean and spread.

    Parameters
    ----------
    data
        The environment; by default that of each agent.
    options
        ``episodes`` and ``seeds``.
    """
    for name in given(click.get_current_context()):
        if name not in ("models", "data", "episodes", "seeds"):
            raise click.UsageError(f"--{name.replace('_', '-')} does not apply to agents")
    from dlmie.reinforcement import evaluate

    scores = [evaluate(model, data, seed=console.seed, **options) for model in models]
    documents = [
        {"model": model, **each.to_json()} for model, each in zip(models, scores, strict=True)
    ]
    if len(models) == 1:
        console.result(documents[0], str(scores[0]))
        return
    rows = [
        (model, f"{each.mean:.4f}", f"{each.std:.4f}", _shown(each.optimum))
        for model, each in zip(models, scores, strict=True)
    ]
    means = [each.mean for each in scores]
    rows.append(("mean ± std", f"{np.mean(means):.4f}", f"± {np.std(means):.4f} of models", ""))
    console.result(documents, format_table(("model", "reward", "± of episodes", "optimum"), rows))


def _shown(optimum: float | None) -> str:
    return "" if optimum is None else f"{optimum:.4f}"
