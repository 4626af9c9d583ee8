"""What every search over words shares: constraints, and the caption found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dlmie.data.captions.vocabulary import END, PAD, START, UNK
from dlmie.errors import DataError, DlmieError
from dlmie.models.captioners.decoder import Extras, State, Step

NOT_A_NUMBER = (
    "the model gives NaN as the probability of a word: its weights are broken (training diverged?)"
)


@dataclass(eq=False)
class Caption:
    """One caption that a search found or a model was told.

    Attributes
    ----------
    words : list[int]
        Numbers of the words, without START and END.
    log_probability : float
        The model's, in nats, of all words and of END where the caption is finished.
    score : float
        What captions of one image are ordered by: ``log_probability / length**length_norm``,
        where the length counts the words plus the end.
    finished : bool
        Whether END was reached.
    extras : dict[str, numpy.ndarray]
        The step's named arrays at each word: (words, …).
    text : str
        The words as text, where somebody who has the vocabulary filled it in.
    tokens : list[str]
        The same words one by one.
    word_logs : numpy.ndarray or None
        Log-probability of each word, and of END where the caption is finished: they sum to
        ``log_probability``.
    """

    words: list[int]
    log_probability: float
    score: float
    finished: bool
    extras: Extras = field(default_factory=dict, repr=False)
    text: str = ""
    tokens: list[str] = field(default_factory=list, repr=False)
    word_logs: np.ndarray | None = field(default=None, repr=False)

    @property
    def labels(self) -> list[str]:
        """The word beside each map: ``tokens``, or ``text`` split at its blanks."""
        return self.tokens or self.text.split()

    @property
    def alphas(self) -> np.ndarray | None:
        """Attention (words, rows, columns) at each word, if the model attends."""
        return self.extras.get("alphas")

    @property
    def gates(self) -> np.ndarray | None:
        """Attention gate β (words,) at each word, if the model has one."""
        return self.extras.get("gates")


@dataclass(frozen=True)
class Constraints:
    """Which words may follow.

    Parameters
    ----------
    max_length
        Words that a caption has at most, the end counted as one.
    min_length
        Words that a caption has at least, the end not counted.
    allow_unknown
        Whether UNK may be said.
    no_repeat_ngram
        Never say the same so many words in a row twice; 0 allows it.
    no_immediate_repeat
        Never say a word twice in a row.
    start, end, banned
        Numbers of the word fed first, of the word that ends a caption, and of words never said.
    """

    max_length: int = 20
    min_length: int = 0
    allow_unknown: bool = False
    no_repeat_ngram: int = 0
    no_immediate_repeat: bool = False
    start: int = START
    end: int = END
    banned: tuple[int, ...] = (PAD, START)

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise DataError(f"max_length must be at least 1, not {self.max_length}")
        if not 0 <= self.min_length < self.max_length:
            raise DataError(
                f"min_length must be from 0 to max_length - 1, not {self.min_length} "
                f"with max_length {self.max_length}"
            )
        if self.no_repeat_ngram < 0:
            raise DataError(f"no_repeat_ngram must not be negative, as {self.no_repeat_ngram} is")

    def apply(self, log_probabilities: np.ndarray, history: np.ndarray) -> np.ndarray:
        """Give forbidden words the log-probability -inf.

        Parameters
        ----------
        log_probabilities
            (images, beams, vocabulary); overwritten, unless it cannot be.
        history
            (images, beams, words): what each hypothesis has said.
        """
        if not log_probabilities.flags.writeable:
            log_probabilities = log_probabilities.copy()
        said = history.shape[-1]
        for word in self.banned:  # faster than all at once
            log_probabilities[..., word] = -np.inf
        if not self.allow_unknown:
            log_probabilities[..., UNK] = -np.inf
        if said < self.min_length:
            log_probabilities[..., self.end] = -np.inf
        if self.no_immediate_repeat and said:
            np.put_along_axis(log_probabilities, history[..., -1:], -np.inf, axis=-1)
        if 0 < self.no_repeat_ngram <= said:
            _ban_ngrams(log_probabilities, history, self.no_repeat_ngram)
        return log_probabilities

    def describe(self) -> str:
        """Say it in words, for a protocol."""
        parts = [
            f"at most {self.max_length} words with the end",
            f"at least {self.min_length} without" if self.min_length else "",
            "UNK allowed" if self.allow_unknown else "UNK suppressed",
            f"no {self.no_repeat_ngram}-gram twice" if self.no_repeat_ngram else "",
            "no word twice in a row" if self.no_immediate_repeat else "",
        ]
        return ", ".join(filter(None, parts))


def _ban_ngrams(log_probabilities: np.ndarray, history: np.ndarray, size: int) -> None:
    """Ban the words that followed the last ``size - 1`` words before."""
    windows = np.lib.stride_tricks.sliding_window_view(history, size, axis=-1)
    tail = history[..., history.shape[-1] - size + 1 :]
    seen = (windows[..., :-1] == tail[..., None, :]).all(axis=-1)  # (images, beams, windows)
    image, beam, place = np.nonzero(seen)
    log_probabilities[image, beam, windows[image, beam, place, -1]] = -np.inf


def call_step(
    step: Step, words: np.ndarray, state: State, images: np.ndarray
) -> tuple[np.ndarray, State, Extras]:
    """Call the model and refuse numbers that no search can order."""
    log_probabilities, state, extras = step(words, state, images)
    if np.isnan(log_probabilities.max()):  # one NaN makes the maximum NaN
        raise DlmieError(NOT_A_NUMBER)
    return log_probabilities, state, extras or {}


def gather(state: State, index: tuple[np.ndarray | np.bool | slice, ...]) -> State:
    """Index every array of a nested state."""
    return tuple(
        gather(array, index) if isinstance(array, tuple) else array[index] for array in state
    )


def count_images(state: State) -> int:
    """Images in a state (images, beams, …)."""
    first: np.ndarray | State = state
    while isinstance(first, tuple):
        first = first[0]
    return int(first.shape[0])
