"""A captioner compiled for decoding, one word at a time: NumPy around two functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from dlmie.captioning.decoding import Extras, State, Step

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
    """

    begin_function: Compiled
    advance_function: Compiled
    states: int
    extras: list[str]
    dtype: str

    def begin(self, features: np.ndarray) -> tuple[Step, State]:
        """Features (images, …) → the step function over these images, and their first state.

        The state has one beam: each array is (images, 1, …).
        """
        arrays = self.begin_function(np.ascontiguousarray(features, dtype=self.dtype))
        state = tuple(a[:, None] for a in arrays[: self.states])
        return _Step(self, arrays[self.states :]), state


class _Step:
    """The step protocol of :mod:`dlmie.captioning.decoding` for one batch of images."""

    def __init__(self, decoder: Decoder, context: Sequence[np.ndarray]) -> None:
        self.decoder, self.context = decoder, list(context)
        self._active: np.ndarray | None = None
        self._chosen = self.context

    def __call__(
        self, words: np.ndarray, state: State, images: np.ndarray
    ) -> tuple[np.ndarray, State, Extras]:
        count, beams = words.shape
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
