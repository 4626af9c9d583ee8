"""Batched beam search over images × beams."""

from __future__ import annotations

import numpy as np

from dlmie.captioning.decoding.constraints import (
    NOT_A_NUMBER,
    Caption,
    Constraints,
    Extras,
    State,
    Step,
    count_images,
    gather,
)
from dlmie.errors import DataError, DlmieError
from dlmie.ops.decoding.beams import continue_beams


def beam_search(
    step: Step,
    state: State,
    constraints: Constraints | None = None,
    *,
    beam: int = 5,
    length_norm: float = 0.0,
    n_best: int = 1,
) -> list[list[Caption]]:
    """Search the most probable captions of every image at once.

    The ``beam`` best hypotheses of an image are continued by every word; one whose end ranks
    among the ``beam`` best leaves the beam and competes by ``log_probability / length**norm``,
    the length counting the words plus the end. An image is done when ``beam`` hypotheses have
    ended, or when no other can reach the best ones any more. One place of the beam belongs to
    the greedy caption for as long as it has not ended, so that without length normalization no
    finished greedy caption is ever better than what a wider beam finds. Equals are ordered by
    beam and word: the answer depends neither on chance nor on the other images of the batch.

    Parameters
    ----------
    step, state
        The model, see :data:`dlmie.models.captioners.decoder.Step`, and its state
        (images, 1, …) before the first word.
    constraints
        Which words may follow.
    beam
        Hypotheses an image; 1 is greedy search.
    length_norm
        Exponent of the length: 0 compares log-probabilities and so favors short captions,
        1 compares the mean per word; about 0.85 suits photographs.
    n_best
        Captions to return an image, at most ``beam``.

    Returns
    -------
    list[list[Caption]]
        Per image up to ``n_best`` different captions: the finished ones by falling score, then,
        only if too few have ended, unfinished ones in the same way.

    Raises
    ------
    DataError
        For options out of range.
    """
    constraints = constraints or Constraints()
    if beam < 1 or not 1 <= n_best <= beam or length_norm < 0:
        raise DataError(
            "beam search needs beam >= 1, n_best from 1 to beam and length_norm >= 0, not "
            f"{beam}, {n_best} and {length_norm}"
        )
    images, steps = count_images(state), constraints.max_length
    tree = _Tree(images, steps, beam)
    active = np.arange(images)
    words = np.full((images, 1), constraints.start)
    history = np.empty((images, 1, 0), dtype=int)
    scores = np.zeros((images, 1))  # (images, beams) log-probabilities so far
    greedy = np.zeros(images, dtype=int)  # the beam that holds the greedy hypothesis, -1 if none
    best = np.full((images, n_best), -np.inf)  # scores of finished captions, rising
    ended = np.zeros(images, dtype=int)
    for place in range(steps):
        logs, state, extras = step(words, state, active)
        logs = constraints.apply(logs, history)
        vocabulary = logs.shape[-1]
        try:
            chosen, totals, ends, ending, greedy = continue_beams(
                logs, scores, greedy, end=constraints.end, beam=beam
            )
        except FloatingPointError as error:
            raise DlmieError(NOT_A_NUMBER) from error
        parents, following = np.divmod(chosen, vocabulary)
        stuck = totals[:, 0] == -np.inf  # the constraints leave no word: what was said competes
        if stuck.any():
            tree.cut(active[stuck], place, scores[stuck])
        tree.record(active, parents, following, totals, extras or {})
        if ending.any():
            tree.end(active, place, np.where(ending, ends, -np.inf))
            ended += ending.sum(axis=1)
            normalized = np.where(ending, ends / (place + 1) ** length_norm, -np.inf)
            best = np.sort(np.hstack([best, normalized]), axis=1)[:, -n_best:]
        hopeless = totals[:, 0] / steps**length_norm <= best[:, 0]
        keep = ~(stuck | hopeless | ((ended >= beam) & (greedy < 0)))
        if not keep.any():
            break
        rows = np.flatnonzero(keep)[:, None]
        words, scores = following, totals
        if len(rows) < len(active):
            parents, words, scores = parents[keep], words[keep], scores[keep]
            active, greedy, best, ended = active[keep], greedy[keep], best[keep], ended[keep]
        state = gather(state, (rows, parents))
        history = np.concatenate([history[rows, parents], words[..., None]], axis=-1)
    else:
        tree.cut(active, steps, scores)
    return tree.captions(n_best, length_norm)


class _Tree:
    """All hypotheses of a search as back-pointers: a beam's words are read off from its end."""

    def __init__(self, images: int, steps: int, beam: int) -> None:
        # Of each step, one row for each image that was searched: (rows, beams).
        self.parents: list[np.ndarray] = []
        self.words: list[np.ndarray] = []
        self.sums: list[np.ndarray] = []  # log-probability up to each word
        self.extras: list[Extras] = []
        # Log-probability of what ended at each step in each beam; the last row is what was cut.
        self.ends = np.full((steps + 1, images, beam), -np.inf)
        self.cut_at = np.zeros(images, dtype=int)
        self.rows = np.zeros((steps, images), dtype=int)  # an image's row in a step's arrays

    def record(
        self,
        images: np.ndarray,
        parents: np.ndarray,
        words: np.ndarray,
        sums: np.ndarray,
        extras: Extras,
    ) -> None:
        self.rows[len(self.words), images] = np.arange(len(images))
        self.parents.append(parents)
        self.words.append(words)
        self.sums.append(sums)
        self.extras.append(extras)

    def end(self, images: np.ndarray, place: int, totals: np.ndarray) -> None:
        self.ends[place, images, : totals.shape[1]] = totals

    def cut(self, images: np.ndarray, place: int, totals: np.ndarray) -> None:
        self.ends[-1, images, : totals.shape[1]] = totals
        self.cut_at[images] = place

    def captions(self, n_best: int, length_norm: float) -> list[list[Caption]]:
        """Read off the best captions of every image."""
        steps, images, beam = len(self.rows), *self.ends.shape[1:]
        length = np.broadcast_to(np.arange(steps + 1)[:, None], (steps + 1, images)).copy()
        length[-1] = self.cut_at
        finished = np.arange(steps + 1) < steps
        counted = np.maximum(length + finished[:, None], 1)  # words plus the end
        totals = self.ends.transpose(1, 0, 2).reshape(images, -1)  # (images, steps + 1 · beam)
        scores = totals / np.repeat(counted.T, beam, axis=1) ** length_norm
        group = np.where(totals > -np.inf, np.repeat(~finished, beam), 2)
        order = np.lexsort((-scores, group))[:, :n_best]
        image, rank = np.nonzero(np.take_along_axis(group, order, axis=1) < 2)
        slot = order[image, rank]
        place, lane = np.divmod(slot, beam)
        words, sums, extras = self._trace(image, length[place, image], lane)
        found: list[list[Caption]] = [[] for _ in range(images)]
        for row, (i, s) in enumerate(zip(image, slot, strict=True)):
            size = length[place[row], i]
            ended = [totals[i, s]] if finished[place[row]] else []
            found[i].append(
                Caption(
                    words=words[row, :size].tolist(),
                    log_probability=float(totals[i, s]),
                    score=float(scores[i, s]),
                    finished=bool(finished[place[row]]),
                    extras={name: value[row, :size].copy() for name, value in extras.items()},
                    word_logs=np.diff([0.0, *sums[row, :size], *ended]),
                )
            )
        return found

    def _trace(
        self, image: np.ndarray, length: np.ndarray, lane: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Extras]:
        """Follow hypotheses back to their first words, all at once."""
        longest = int(length.max(initial=0))
        words = np.zeros((len(image), longest), dtype=int)
        sums = np.zeros((len(image), longest))
        first = self.extras[0] if self.extras else {}
        extras = {
            name: np.zeros((len(image), longest, *value.shape[2:]), value.dtype)
            for name, value in first.items()
        }
        lane = lane.copy()
        for place in reversed(range(longest)):
            of = np.flatnonzero(length > place)
            row, at = self.rows[place, image[of]], lane[of]
            words[of, place] = self.words[place][row, at]
            sums[of, place] = self.sums[place][row, at]
            lane[of] = before = self.parents[place][row, at]
            for name, value in self.extras[place].items():
                extras[name][of, place] = value[row, before]
        return words, sums, extras
