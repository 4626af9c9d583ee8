"""Beam search between two words; kernel in ``beams.c``, and its definition in NumPy."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from dlmie.ops.runtime import library

_BLOCK = 256  # words whose maximum is looked at first


class Continued(NamedTuple):
    """The best continuations of every image's hypotheses.

    Attributes
    ----------
    chosen : (images, beam)
        Where they stand: beam · V + word, by falling total; of equals the first place first.  Fewer
        where there are not so many words.
    totals : (images, beam)
        Their log-probabilities.
    ends : (images, beams)
        Log-probabilities of hypotheses that end here.
    ending : (images, beams)
        Whether they do: their end is among the ``beam`` best words and ends, or greedy.
    greedy : (images,)
        Which of the chosen continues the greedy hypothesis, or -1: it has ended.  It is given the
        last place where it would have none.
    """

    chosen: np.ndarray
    totals: np.ndarray
    ends: np.ndarray
    ending: np.ndarray
    greedy: np.ndarray


def continue_beams(
    logs: np.ndarray, scores: np.ndarray, greedy: np.ndarray, *, end: int, beam: int
) -> Continued:
    """Choose the continuations of hypotheses; by the kernel where kernels are loaded.

    Parameters
    ----------
    logs
        (images, beams, V) log-probabilities of the next word; overwritten.
    scores
        (images, beams) log-probabilities so far.
    greedy
        (images,): the beam that holds the greedy hypothesis, or -1.
    end
        The word that ends a caption.
    beam
        How many are chosen.

    Raises
    ------
    FloatingPointError
        A log-probability is NaN.
    """
    kernel = _kernel(logs.dtype)
    if kernel is None:
        return by_numpy(logs, scores, greedy, end=end, beam=beam)
    (images, beams, words), logs = logs.shape, np.ascontiguousarray(logs)
    count = min(beam, beams * words)
    scores = np.ascontiguousarray(scores, dtype=np.float64)
    found = Continued(
        chosen=np.empty((images, count), np.int64),
        totals=np.empty((images, count)),
        ends=np.empty((images, beams)),
        ending=np.empty((images, beams), bool),
        greedy=np.array(greedy, np.int64),
    )
    chosen, totals, ends, ending, following = (array.ctypes.data for array in found)
    sizes = (images, beams, words, beam, count, end)
    given = (logs.ctypes.data, scores.ctypes.data, following)
    if kernel(*sizes, *given, chosen, totals, ends, ending):
        raise FloatingPointError("a log-probability is NaN")
    return found


def _kernel(dtype: np.dtype) -> Callable[..., int] | None:
    loaded = library.loaded()
    return None if loaded is None else _function(loaded, dtype)


@functools.cache
def _function(loaded: ctypes.CDLL, dtype: np.dtype) -> Callable[..., int] | None:
    suffix = {"float32": "f32", "float64": "f64"}.get(dtype.name)
    if suffix is None:
        return None
    kernel = loaded[f"continue_beams_{suffix}"]
    kernel.argtypes = [ctypes.c_int64] * 6 + [ctypes.c_void_p] * 7
    return kernel


def by_numpy(
    logs: np.ndarray, scores: np.ndarray, greedy: np.ndarray, *, end: int, beam: int
) -> Continued:
    """The same in NumPy: what the kernel must find."""
    if np.isnan(logs.max()):  # one NaN makes the maximum NaN
        raise FloatingPointError("a log-probability is NaN")
    ends, end_logs = scores + logs[..., end], logs[..., end].copy()
    logs[..., end] = -np.inf
    chosen, totals = _best_words(logs, scores, beam)
    ending = _ending(ends, end, chosen, totals, logs.shape[-1], beam)
    following = _keep_greedy(greedy, logs, end_logs, scores, end, chosen, totals, ending)
    return Continued(chosen, totals, ends, ending & (ends > -np.inf), following)


def _best_words(logs: np.ndarray, scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the best continuations of every image: places beam·V + word, and log-probabilities.

    Sorted by falling log-probability, equals by place. Exact, yet it reads all numbers only once:
    the best ``count`` words lie in the ``count`` blocks whose maxima are best (for equals, in the
    first ones), so no more than these blocks are searched.
    """
    images, _, vocabulary = logs.shape
    maxima = _block_maxima(logs) + scores[..., None]
    blocks = _largest(maxima.reshape(images, -1), count)  # (images, blocks), rising
    beam, block = np.divmod(blocks, maxima.shape[-1])
    word = block[..., None] * _BLOCK + np.arange(_BLOCK)  # (images, blocks, words)
    inside = np.minimum(word, vocabulary - 1)
    image = np.arange(images)[:, None]
    candidates = logs[image[..., None], beam[..., None], inside] + scores[image, beam][..., None]
    candidates[word >= vocabulary] = -np.inf
    places = (beam[..., None] * vocabulary + inside).reshape(images, -1)
    totals = candidates.reshape(images, -1)
    found = _largest(totals, count)
    order = np.argsort(-totals[image, found], axis=1, kind="stable")
    found = found[image, order]
    return places[image, found], totals[image, found]


def _block_maxima(logs: np.ndarray) -> np.ndarray:
    """(…, vocabulary) → (…, blocks); ``np.maximum.reduceat`` takes several times as long."""
    whole = logs.shape[-1] // _BLOCK * _BLOCK
    maxima = logs[..., :whole].reshape(*logs.shape[:-1], -1, _BLOCK).max(axis=-1)
    if whole == logs.shape[-1]:
        return maxima
    return np.concatenate([maxima, logs[..., whole:].max(axis=-1, keepdims=True)], axis=-1)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest values of every row, rising; of equals the first."""
    rows, size = values.shape
    if size <= count:
        return np.broadcast_to(np.arange(size), (rows, size))
    limit = np.partition(values, size - count, axis=1)[:, size - count, None]
    chosen = values >= limit
    if np.count_nonzero(chosen) > rows * count:  # of those that equal the last, not all
        above, equal = values > limit, values == limit
        room = count - above.sum(axis=1, keepdims=True)
        chosen = above | (equal & (equal.cumsum(axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(rows, count)


def _ending(
    ends: np.ndarray, end: int, chosen: np.ndarray, totals: np.ndarray, vocabulary: int, beam: int
) -> np.ndarray:
    """Whether each hypothesis' end is among the ``beam`` best words and ends: (images, beams)."""
    if totals.shape[1] == beam and (ends < totals[:, -1:]).all():  # as mostly
        return np.zeros(ends.shape, dtype=bool)
    own = np.broadcast_to(np.arange(ends.shape[1]) * vocabulary + end, ends.shape)
    rivals = np.hstack([totals, ends])[:, None]
    places = np.hstack([chosen, own])[:, None]
    before = (rivals > ends[..., None]) | ((rivals == ends[..., None]) & (places < own[..., None]))
    return np.asarray(before.sum(axis=-1) < beam)


def _keep_greedy(
    greedy: np.ndarray,
    logs: np.ndarray,
    end_logs: np.ndarray,
    scores: np.ndarray,
    end: int,
    chosen: np.ndarray,
    totals: np.ndarray,
    ending: np.ndarray,
) -> np.ndarray:
    """Let the greedy hypothesis go on, in the last place if it has none, or end.

    Changes ``chosen`` and ``totals``, or ``ending``; returns its next place in the beam, or -1.
    """
    images = np.flatnonzero(greedy >= 0)
    beam = greedy[images]
    words = logs[images, beam].argmax(axis=-1)
    word_logs, last = logs[images, beam, words], end_logs[images, beam]
    ends = (last > word_logs) | ((last == word_logs) & (end < words))
    ending[images[ends], beam[ends]] = True
    goes_on = ~ends & (word_logs > -np.inf)
    images, beam, words = images[goes_on], beam[goes_on], words[goes_on]
    place = beam * logs.shape[-1] + words
    held = chosen[images] == place[:, None]
    lost = ~held.any(axis=1)
    chosen[images[lost], -1] = place[lost]
    totals[images[lost], -1] = (scores[images, beam] + word_logs[goes_on])[lost]
    following = np.full_like(greedy, -1)
    following[images] = np.where(lost, chosen.shape[1] - 1, held.argmax(axis=1))
    return following
