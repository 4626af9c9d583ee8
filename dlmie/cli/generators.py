"""What ``dlmie evaluate`` does with generators."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dlmie.cli.console import Console
from dlmie.cli.data import data_of
from dlmie.cli.options import given
from dlmie.text import format_table


def are_generators(models: Sequence[str]) -> bool:
    """Whether models are generators; generators and others together are an error."""
    from dlmie.trained import is_generator

    kinds = {is_generator(model) for model in models}
    if len(kinds) > 1:
        raise click.UsageError("evaluate generators and other models one after the other")
    return kinds.pop()


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
    for name in given(click.get_current_context()):
        if name not in ("models", "split", "data", "classifier", "images"):
            raise click.UsageError(f"--{name.replace('_', '-')} does not apply to generators")
    from dlmie.data.labelled.dataset import LabelledImages
    from dlmie.generation import evaluate

    with LabelledImages(data or data_of(models[0])) as opened:
        scores = [
            evaluate(model, opened[split], classifier=classifier, images=images, seed=console.seed)
            for model in models
        ]
    documents = [
        {"model": model, **each.to_json()} for model, each in zip(models, scores, strict=True)
    ]
    if len(models) == 1:
        console.result(documents[0], str(scores[0]))
        return
    columns = ("pixel_frechet", "diversity", "frechet", "confidence", "classes")
    rows = [
        (model, *(_shown(getattr(each, column)) for column in columns))
        for model, each in zip(models, scores, strict=True)
    ]
    console.result(documents, format_table(("model", *columns), rows))


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
