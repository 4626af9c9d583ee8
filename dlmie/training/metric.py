"""Scores by name, and which way each improves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A score by name, and which way it improves: the one place that says so."""

    name: str
    higher_is_better: bool = True

    def better(self, score: float, than: float) -> bool:
        """Whether a score is an improvement."""
        return score > than if self.higher_is_better else score < than


#: Every task measures these on its training data.
LOSS = Metric("loss", higher_is_better=False)
