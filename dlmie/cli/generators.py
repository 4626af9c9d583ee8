"""What ``dlmie evaluate`` does with generators."""

from __future__ import annotations

from collections.abc import Sequence

from dlmie.cli.console import Console
from dlmie.cli.data import data_of
from dlmie.cli.scores import print_scores
from dlmie.text import format_table


def evaluate_generators(
    console: Console,
    models: Sequence[str],
    split: str,
    data: str | None,
    *,
    classifier: str | None,
    images: int,
) -> None:
    """Print how near to real images those of generators are; several side by side."""
    from dlmie.data.labelled.dataset import LabelledImages
    from dlmie.generation import evaluate

    with LabelledImages(data or data_of(models[0])) as opened:
        scores = [
            evaluate(model, opened[split], classifier=classifier, images=images, seed=console.seed)
            for model in models
        ]
    columns = ("pixel_frechet", "diversity", "frechet", "confidence", "classes")
    rows = [
        (model, *(_shown(getattr(each, column)) for column in columns))
        for model, each in zip(models, scores, strict=True)
    ]
    print_scores(console, models, scores, format_table(("model", *columns), rows))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
