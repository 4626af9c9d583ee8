"""From a model's next-word probabilities to captions: pure NumPy over one compiled step.

:func:`greedy`, :func:`sample` and :func:`beam_search` search, :func:`force` follows known words,
:func:`ensemble_step` makes one model of several; :class:`Decoding` holds all choices as one
value that runs the search and names itself in a score's protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.decoding_beam import beam_search
from dlmie.decoding_rules import Caption, Extras, Rules, State, Step
from dlmie.decoding_walks import force, greedy, sample
from dlmie.errors import DataError

__all__ = [
    "Caption",
    "Decoding",
    "Extras",
    "Rules",
    "State",
    "Step",
    "beam_search",
    "ensemble_step",
    "force",
    "greedy",
    "sample",
]


@dataclass(frozen=True)
class Decoding(Rules):
    """How captions are found: every option of a search as one value.

    Parameters
    ----------
    beam, length_norm, n_best
        Of :func:`beam_search`; ``beam=1`` is greedy search.
    samples
        Draw so many captions instead of searching; 0 searches.
    temperature, top_k, top_p, seed
        Of :func:`sample`.

    The other parameters are those of :class:`Rules`.

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
            Of :func:`sample`.
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


def ensemble_step(steps: Sequence[Step]) -> Step:
    """Make one model of several: the mean of their probabilities, word by word.

    Parameters
    ----------
    steps
        Models of the same vocabulary.

    Returns
    -------
    Step
        Its state is the tuple of the models' states. Extras that all models give in one shape
        are averaged, others left out.

    Raises
    ------
    DataError
        If there is no model, or, when it runs, if their vocabularies differ in size.
    """
    if not steps:
        raise DataError("an ensemble needs at least one model")

    def step(
        words: np.ndarray, state: State, images: np.ndarray
    ) -> tuple[np.ndarray, State, Extras]:
        answers = [one(words, own, images) for one, own in zip(steps, state, strict=True)]
        logs = [answer[0] for answer in answers]
        if len({log.shape for log in logs}) > 1:
            sizes = ", ".join(str(log.shape[-1]) for log in logs)
            raise DataError(f"models of an ensemble share one vocabulary; these have {sizes} words")
        largest = np.maximum.reduce(logs)
        largest[largest == -np.inf] = 0
        total = sum(np.exp(log - largest) for log in logs)
        with np.errstate(divide="ignore"):  # a word that all forbid
            mean = largest + np.log(total / len(logs))
        return mean, tuple(answer[1] for answer in answers), _mean_extras(answers)

    return step


def _mean_extras(answers: Sequence[tuple[np.ndarray, State, Extras | None]]) -> Extras:
    extras = [answer[2] or {} for answer in answers]
    shared: Extras = {}
    for name, first in extras[0].items():
        values = [own[name] for own in extras if name in own and own[name].shape == first.shape]
        if len(values) == len(extras):
            shared[name] = np.mean(values, axis=0, dtype=first.dtype)
    return shared
