"""Captions said word by word without looking back: greedy, sampled, or known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dlmie.captioning.decoding.constraints import (
    Caption,
    Constraints,
    Extras,
    State,
    Step,
    call_step,
    count_images,
    gather,
)
from dlmie.errors import DataError

_BLOCK = 256  # words among which a sample is drawn at last

#: ``choose(log_probabilities, history, images)``: the next words (images, rows), -1 where none
#: may follow.
_Choose = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def greedy(step: Step, state: State, constraints: Constraints | None = None) -> list[Caption]:
    """Say the most probable word each time.

    Parameters
    ----------
    step, state
        The model, see :data:`dlmie.models.captioners.decoder.Step`, and its state
        (images, 1, …) before the first word.
    constraints
        Which words may follow.

    Returns
    -------
    list[Caption]
        One per image.
    """
    constraints = constraints or Constraints()

    def choose(logs: np.ndarray, history: np.ndarray, images: np.ndarray) -> np.ndarray:
        logs = constraints.apply(logs, history)
        best = logs.argmax(axis=-1)
        possible = np.take_along_axis(logs, best[..., None], axis=-1)[..., 0] > -np.inf
        return np.where(possible, best, -1)

    return [captions[0] for captions in _walk(step, state, choose, constraints, rows=1)]


def sample(
    step: Step,
    state: State,
    constraints: Constraints | None = None,
    *,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    keys: Sequence[int] | None = None,
) -> list[list[Caption]]:
    """Draw each word by its probability.

    Every image has its own random numbers, made from ``seed`` and its key: its captions do not
    depend on which other images are in the batch.

    Parameters
    ----------
    step, state, constraints
        As for :func:`greedy`.
    samples
        Captions an image.
    temperature
        Log-probabilities are divided by it: below 1 more likely words, above 1 rarer ones.
    top_k
        Draw from the so many likeliest words only; 0: from all.
    top_p
        Draw from the fewest words that together have this probability, after ``top_k``.
    seed, keys
        Of the random numbers; ``keys`` are whole numbers ≥ 0, one per image (its place in the
        split, say), by default the place in the batch.

    Returns
    -------
    list[list[Caption]]
        (images, samples). Log-probabilities are the model's, before temperature and cuts.

    Raises
    ------
    DataError
        For options out of range.
    """
    constraints = constraints or Constraints()
    if not temperature > 0 or not 0 < top_p <= 1 or top_k < 0 or samples < 1:
        raise DataError(
            "sampling needs temperature > 0, 0 < top_p <= 1, top_k >= 0 and samples >= 1, not "
            f"{temperature}, {top_p}, {top_k} and {samples}"
        )
    keys = range(count_images(state)) if keys is None else keys
    shape = (constraints.max_length, samples)
    # (images, words, samples): the first words' numbers do not depend on max_length
    uniform = np.stack([np.random.default_rng([seed, key]).random(shape) for key in keys])

    def choose(logs: np.ndarray, history: np.ndarray, images: np.ndarray) -> np.ndarray:
        allowed = constraints.apply(logs, history) / temperature
        if top_k:
            allowed = _keep_top_k(allowed, top_k)
        largest = allowed.max(axis=-1, keepdims=True)
        weights = np.exp(allowed - np.where(largest > -np.inf, largest, 0))
        if top_p < 1:
            weights = _keep_top_p(weights, top_p)
        drawn = _draw(weights, uniform[images, history.shape[-1]])
        return np.where(largest[..., 0] > -np.inf, drawn, -1)

    return _walk(step, state, choose, constraints, rows=samples)


def force(
    step: Step,
    state: State,
    words: Sequence[Sequence[int]],
    constraints: Constraints | None = None,
    *,
    finished: bool = True,
) -> list[Caption]:
    """Have the model say given captions: their log-probabilities and where it looks.

    Parameters
    ----------
    step, state
        As for :func:`greedy`.
    words
        One caption per image: numbers of its words, without START and END; any word may stand
        there, UNK too.
    constraints
        Only ``start`` and ``end`` are used.
    finished
        Whether END is to follow, and its probability to count.

    Returns
    -------
    list[Caption]
        One per image.

    Raises
    ------
    DataError
        If there is not one caption per image, or one holds END.
    """
    constraints = constraints or Constraints()
    images = count_images(state)
    if len(words) != images:
        raise DataError(f"{len(words)} known captions for {images} images: give one per image")
    if any(constraints.end in caption for caption in words):
        raise DataError(f"a known caption holds its own end ({constraints.end}): leave it out")
    longest = max((len(caption) for caption in words), default=0)
    known = np.full((images, longest + 1), constraints.end if finished else -1)
    for image, caption in enumerate(words):
        known[image, : len(caption)] = caption

    def choose(logs: np.ndarray, history: np.ndarray, active: np.ndarray) -> np.ndarray:
        return known[active, history.shape[-1], None]

    constraints = Constraints(max_length=longest + 1, start=constraints.start, end=constraints.end)
    return [captions[0] for captions in _walk(step, state, choose, constraints, rows=1)]


def _draw(weights: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw places of the last axis by their weights: first a block of them, then one in it.

    Block by block because cumulative sums over a whole vocabulary take longer than the rest.
    """
    size = weights.shape[-1]
    starts = np.arange(0, size, _BLOCK)
    sums = np.add.reduceat(weights, starts, axis=-1, dtype=np.float64)
    cumulative = sums.cumsum(axis=-1)
    left = uniform * cumulative[..., -1]
    block = (cumulative > left[..., None]).argmax(axis=-1)[..., None]
    left -= np.take_along_axis(cumulative - sums, block, axis=-1)[..., 0]
    places = starts[block] + np.arange(_BLOCK)
    inside = np.take_along_axis(weights, np.minimum(places, size - 1), axis=-1)
    within = np.where(places < size, inside, 0).cumsum(axis=-1, dtype=np.float64)
    left = np.clip(left, 0, np.nextafter(within[..., -1], 0))  # rounding: never a weight of zero
    return block[..., 0] * _BLOCK + (within > left[..., None]).argmax(axis=-1)


def _keep_top_k(allowed: np.ndarray, count: int) -> np.ndarray:
    """All but the largest so many become -inf; equals of the last one stay too."""
    if count >= allowed.shape[-1]:
        return allowed
    smallest = np.partition(allowed, -count, axis=-1)[..., -count, None]
    return np.where(allowed >= smallest, allowed, -np.inf)


def _keep_top_p(weights: np.ndarray, share: float) -> np.ndarray:
    """All but the largest that together reach the share become 0; equals of the last stay."""
    falling = -np.sort(-weights, axis=-1)
    cumulative = falling.cumsum(axis=-1, dtype=np.float64)
    last = (cumulative >= share * cumulative[..., -1:]).argmax(axis=-1)
    smallest = np.take_along_axis(falling, last[..., None], axis=-1)
    return np.where(weights >= smallest, weights, 0)


def _walk(
    step: Step, state: State, choose: _Choose, constraints: Constraints, rows: int
) -> list[list[Caption]]:
    """Feed every chosen word back until each row of each image has ended."""
    images, steps = count_images(state), constraints.max_length
    said = np.zeros((images, rows, steps), dtype=int)
    lengths = np.zeros((images, rows), dtype=int)
    totals = np.zeros((images, rows))
    word_logs = np.zeros((images, rows, steps))
    finished = np.zeros((images, rows), dtype=bool)
    extras: Extras = {}

    active = np.arange(images)
    state = gather(state, (active[:, None], np.zeros((images, rows), dtype=int)))
    words = np.full((images, rows), constraints.start)
    talking = np.ones((images, rows), dtype=bool)
    for place in range(steps):
        logs, state, now = call_step(step, words, state, active)
        for name, value in now.items():
            if name not in extras:
                extras[name] = np.zeros((images, rows, steps, *value.shape[2:]), value.dtype)
            extras[name][active, :, place] = value
        words = choose(logs, said[active, :, :place], active)
        gains = np.take_along_axis(logs, words[..., None], axis=-1)[..., 0].astype(np.float64)
        talking &= words >= 0
        totals[active] += np.where(talking, gains, 0)
        word_logs[active, :, place] = gains
        finished[active] |= talking & (words == constraints.end)
        talking &= words != constraints.end
        said[active, :, place] = words
        lengths[active] += talking
        keep = talking.any(axis=1)
        if not keep.any():
            break
        words = np.where(talking, words, constraints.end)  # what a silent row is fed plays no part
        if not keep.all():
            active, words, talking = active[keep], words[keep], talking[keep]
            state = gather(state, (keep,))

    def caption(image: int, row: int) -> Caption:
        length, total = lengths[image, row], float(totals[image, row])
        return Caption(
            words=said[image, row, :length].tolist(),
            log_probability=total,
            score=total,
            finished=bool(finished[image, row]),
            word_logs=word_logs[image, row, : length + finished[image, row]].copy(),
            extras={name: value[image, row, :length].copy() for name, value in extras.items()},
        )

    return [[caption(image, row) for row in range(rows)] for image in range(images)]
