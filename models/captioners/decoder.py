"""A captioner compiled for decoding, one word at a time: NumPy around two functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

#: What a model carries from word to word: arrays (images, beams, …), nested tuples allowed.
State = tuple["np.ndarray | State", ...]

#: Named arrays (images, beams, …) that tell of one step, such as ``alphas`` or ``gates``.
Extras = dict[str, np.ndarray]

#: ``step(words, state, images) -> (log_probabilities, state, extras)``.
#:
#: ``words`` (images, beams): the words said last, START at first. ``state``: the state before
#: them. ``images`` (images,): which images of the batch are still searched; the same object is
#: handed over until one leaves, so that a step may keep what it gathered by it.
#: ``log_probabilities`` (images, beams, vocabulary): of the next word, normalized; the array is
#: the caller's to overwrite. ``extras``: named arrays of this step, or None.
Step = Callable[[np.ndarray, State, np.ndarray], tuple[np.ndarray, State, Extras | None]]

Compiled: TypeAlias = Callable[..., list[np.ndarray]]
"""A compiled function of arrays."""


@dataclass(frozen=True)
class Decoder:
    """A captioner compiled for decoding: once an image, and once a word.

    It hands a search a step function over (images, beams); the context of an image is stored once,
    however many beams it has.

    Attributes
    ----------
    begin_function
        Features (images, …) → state and context, (images, …) each.
    advance_function
        Words (rows,), state (rows, …), context (images, …) → log-probabilities (rows, vocabulary),
        the new state and the extras (rows, …).
    states : int
        How many arrays the state has.
    extras : list of str
        Names of the extras.
    dtype : str
        Of the features.
    fixed_rows : bool
        Compute all images of a batch as long as one of them is searched: for a backend that
        compiles the function for each number of rows.
    """

    begin_function: Compiled
    advance_function: Compiled
    states: int
    extras: list[str]
    dtype: str
    fixed_rows: bool = False

    def begin(self, features: np.ndarray) -> tuple[Step, State]:
        """Features (images, …) → the step function over these images, and their first state.

        The state has one beam: each array is (images, 1, …).
        """
        arrays = self.begin_function(np.ascontiguousarray(features, dtype=self.dtype))
        state = tuple(a[:, None] for a in arrays[: self.states])
        return _Step(self, arrays[self.states :], len(features)), state


class _Step:
    """A :data:`Step` over one batch of images."""

    def __init__(self, decoder: Decoder, context: Sequence[np.ndarray], count: int) -> None:
        self.decoder, self.context = decoder, list(context)
        self._all = np.arange(count)
        self._active: np.ndarray | None = None
        self._chosen = self.context

    def __call__(
        self, words: np.ndarray, state: State, images: np.ndarray
    ) -> tuple[np.ndarray, State, Extras]:
        count, beams = words.shape
        if self.decoder.fixed_rows and count < len(self._all):
            return self._among_all(words, state, images)
        arrays = [np.ascontiguousarray(part) for part in state]
        rows = [array.reshape(count * beams, *array.shape[2:]) for array in arrays]
        if self._active is not images:  # the search hands over the same object until one leaves
            self._active = images
            self._chosen = [c[images] for c in self.context]
        flat = np.ascontiguousarray(words, dtype=np.int32).reshape(-1)
        results = self.decoder.advance_function(flat, *rows, *self._chosen)
        shaped = [r.reshape(count, beams, *r.shape[1:]) for r in results]
        n = 1 + self.decoder.states
        return (
            shaped[0],
            tuple(shaped[1:n]),
            dict(zip(self.decoder.extras, shaped[n:], strict=True)),
        )

    def _among_all(
        self, words: np.ndarray, state: State, images: np.ndarray
    ) -> tuple[np.ndarray, State, Extras]:
        """The same, computed with the other images of the batch, which stand still."""

        def spread(part: np.ndarray) -> np.ndarray:
            whole = np.zeros((len(self._all), *part.shape[1:]), part.dtype)
            whole[images] = part
            return whole

        parts = tuple(spread(np.asarray(part)) for part in state)
        scores, after, extras = self(spread(words), parts, self._all)
        chosen = tuple(np.asarray(part)[images] for part in after)
        return scores[images], chosen, {name: value[images] for name, value in extras.items()}
