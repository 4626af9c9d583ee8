"""Captions said word by word without looking back: greedy, sampled, or known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dlmie.captioning.decoding.constraints import (
    Caption,
    Extras,
    Rules,
    State,
    Step,
    call_step,
    count_images,
    gather,
)
from dlmie.errors import DataError

_BLOCK = 256  # words among which a sample is drawn at last

#: ``choose(log_probabilities, history, images)``: the next words (images, lanes), -1 where none
#: may follow.
_Choose = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def greedy(step: Step, state: State, rules: Rules | None = None) -> list[Caption]:
    """Say the most probable word each time.

    Parameters
    ----------
    step, state
        The model, see :data:`dlmie.captioning.decoding.constraints.Step`, and its state
        (images, 1, …) before the first word.
    rules
        Which words may follow.

    Returns
    -------
    list[Caption]
        One an image.
    """
    rules = rules or Rules()

    def choose(logs: np.ndarray, history: np.ndarray, images: np.ndarray) -> np.ndarray:
        logs = rules.apply(logs, history)
        best = logs.argmax(axis=-1)
        possible = np.take_along_axis(logs, best[..., None], axis=-1)[..., 0] > -np.inf
        return np.where(possible, best, -1)

    return [captions[0] for captions in _walk(step, state, choose, rules, lanes=1)]


def sample(
    step: Step,
    state: State,
    rules: Rules | None = None,
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
    step, state, rules
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
        Of the random numbers; ``keys`` are whole numbers ≥ 0, one an image (its place in the
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
    rules = rules or Rules()
    if not temperature > 0 or not 0 < top_p <= 1 or top_k < 0 or samples < 1:
        raise DataError(
            "sampling needs temperature > 0, 0 < top_p <= 1, top_k >= 0 and samples >= 1, not "
            f"{temperature}, {top_p}, {top_k} and {samples}"
        )
    keys = range(count_images(state)) if keys is None else keys
    shape = (rules.max_length, samples)
    # (images, words, samples): the first words' numbers do not depend on max_length
    uniform = np.stack([np.random.default_rng([seed, key]).random(shape) for key in keys])

    def choose(logs: np.ndarray, history: np.ndarray, images: np.ndarray) -> np.ndarray:
        allowed = rules.apply(logs, history) / temperature
        if top_k:
            allowed = _keep_top_k(allowed, top_k)
        largest = allowed.max(axis=-1, keepdims=True)
        weights = np.exp(allowed - np.where(largest > -np.inf, largest, 0))
        if top_p < 1:
            weights = _keep_top_p(weights, top_p)
        drawn = _draw(weights, uniform[images, history.shape[-1]])
        return np.where(largest[..., 0] > -np.inf, drawn, -1)

    return _walk(step, state, choose, rules, lanes=samples)


def force(
    step: Step,
    state: State,
    words: Sequence[Sequence[int]],
    rules: Rules | None = None,
    *,
    finished: bool = True,
) -> list[Caption]:
    """Have the model say given captions: their log-probabilities and where it looks.

    Parameters
    ----------
    step, state
        As for :func:`greedy`.
    words
        One caption an image: numbers of its words, without START and END; any word may stand
        there, UNK too.
    rules
        Only ``start`` and ``end`` are used.
    finished
        Whether END is to follow, and its probability to count.

    Returns
    -------
    list[Caption]
        One an image.

    Raises
    ------
    DataError
        If there is not one caption an image, or one holds END.
    """
    rules = rules or Rules()
    images = count_images(state)
    if len(words) != images:
        raise DataError(f"{len(words)} known captions for {images} images: give one an image")
    if any(rules.end in caption for caption in words):
        raise DataError(f"a known caption holds its own end ({rules.end}): leave it out")
    longest = max((len(caption) for caption in words), default=0)
    known = np.full((images, longest + 1), rules.end if finished else -1)
    for image, caption in enumerate(words):
        known[image, : len(caption)] = caption

    def choose(logs: np.ndarray, history: np.ndarray, active: np.ndarray) -> np.ndarray:
        return known[active, history.shape[-1], None]

    rules = Rules(max_length=longest + 1, start=rules.start, end=rules.end)
    return [captions[0] for captions in _walk(step, state, choose, rules, lanes=1)]


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
    step: Step, state: State, choose: _Choose, rules: Rules, lanes: int
) -> list[list[Caption]]:
    """Feed every chosen word back until each lane of each image has ended."""
    images, steps = count_images(state), rules.max_length
    said = np.zeros((images, lanes, steps), dtype=int)
    lengths = np.zeros((images, lanes), dtype=int)
    totals = np.zeros((images, lanes))
    finished = np.zeros((images, lanes), dtype=bool)
    extras: Extras = {}

    active = np.arange(images)
    state = gather(state, (active[:, None], np.zeros((images, lanes), dtype=int)))
    words = np.full((images, lanes), rules.start)
    talking = np.ones((images, lanes), dtype=bool)
    for place in range(steps):
        logs, state, now = call_step(step, words, state, active)
        for name, value in now.items():
            if name not in extras:
                extras[name] = np.zeros((images, lanes, steps, *value.shape[2:]), value.dtype)
            extras[name][active, :, place] = value
        words = choose(logs, said[active, :, :place], active)
        gains = np.take_along_axis(logs, words[..., None], axis=-1)[..., 0].astype(np.float64)
        talking &= words >= 0
        totals[active] += np.where(talking, gains, 0)
        finished[active] |= talking & (words == rules.end)
        talking &= words != rules.end
        said[active, :, place] = words
        lengths[active] += talking
        keep = talking.any(axis=1)
        if not keep.any():
            break
        words = np.where(talking, words, rules.end)  # what a silent lane is fed plays no part
        if not keep.all():
            active, words, talking = active[keep], words[keep], talking[keep]
            state = gather(state, (keep,))

    def caption(image: int, lane: int) -> Caption:
        length, total = lengths[image, lane], float(totals[image, lane])
        return Caption(
            words=said[image, lane, :length].tolist(),
            log_probability=total,
            score=total,
            finished=bool(finished[image, lane]),
            extras={name: value[image, lane, :length].copy() for name, value in extras.items()},
        )

    return [[caption(image, lane) for lane in range(lanes)] for image in range(images)]
