"""Every option of a search for captions as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from dlmie.captioning.decoding.beam import beam_search
from dlmie.captioning.decoding.constraints import Caption, Constraints, State, Step
from dlmie.captioning.decoding.sampling import sample


class DecodingOptions(TypedDict, total=False):
    """Fields of :class:`Decoding` as keyword arguments; those that are left out have their usual
    values."""

    max_length: int
    min_length: int
    allow_unknown: bool
    no_repeat_ngram: int
    no_immediate_repeat: bool
    start: int
    end: int
    banned: tuple[int, ...]
    beam: int
    length_norm: float
    n_best: int
    samples: int
    temperature: float
    top_k: int
    top_p: float
    seed: int


@dataclass(frozen=True)
class Decoding(Constraints):
    """How captions are found: every option of a search as one value.

    Parameters
    ----------
    beam, length_norm, n_best
        Of :func:`~dlmie.captioning.decoding.beam_search`; ``beam=1`` is greedy search.
    samples
        Draw so many captions instead of searching; 0 searches.
    temperature, top_k, top_p, seed
        Of :func:`~dlmie.captioning.decoding.sample`.

    The other parameters are those of :class:`~dlmie.captioning.decoding.Constraints`.

    Examples
    --------
    >>> Decoding(beam=3, min_length=4).describe()
    'beam 3, length norm 0.85, at most 20 words with the end, at least 4 without, UNK suppressed'
    """

    beam: int = 5
    length_norm: float = 0.85
    n_best: int = 1
    samples: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __call__(
        self, step: Step, state: State, keys: Sequence[int] | None = None
    ) -> list[list[Caption]]:
        """Find the captions of a batch, per image the best first; samples are in no order.

        Parameters
        ----------
        step, state
            The model and its state (images, 1, …) before the first word.
        keys
            Of :func:`~dlmie.captioning.decoding.sample`.
        """
        if self.samples:
            return sample(
                step,
                state,
                self,
                samples=self.samples,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                seed=self.seed,
                keys=keys,
            )
        return beam_search(
            step, state, self, beam=self.beam, length_norm=self.length_norm, n_best=self.n_best
        )

    def describe(self) -> str:
        """Say it in words, for a protocol."""
        if self.samples:
            parts = [
                f"{self.samples} samples with seed {self.seed}",
                f"temperature {self.temperature:g}",
                f"top {self.top_k}" if self.top_k else "",
                f"top p {self.top_p:g}" if self.top_p < 1 else "",
            ]
        else:
            parts = [f"beam {self.beam}", f"length norm {self.length_norm:g}"]
        return ", ".join([*filter(None, parts), super().describe()])
