"""How ``dlmie evaluate`` prints the scores of models of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dlmie.cli.console import Console


class Scored(Protocol):
    """The scores of one model; as text they are what is printed of one alone."""

    def to_json(self) -> Mapping[str, object]: ...


def print_scores(
    console: Console,
    models: Sequence[str],
    scores: Sequence[Scored],
    comparison: str,
    more: Mapping[str, object] | None = None,
) -> None:
    """Print the scores of one model, or those of several as ``comparison`` sets them side by side.

    JSON is a document for one model, and a list of documents for several; each has ``more``.
    """
    documents = [
        {"model": model, **each.to_json(), **(more or {})}
        for model, each in zip(models, scores, strict=True)
    ]
    if len(scores) == 1:
        console.result(documents[0], str(scores[0]))
    else:
        console.result(documents, comparison)
