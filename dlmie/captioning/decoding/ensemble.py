"""Several models that say a caption together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.captioning.decoding.constraints import Extras, State, Step
from dlmie.errors import DataError


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
        each = [own for own in state if isinstance(own, tuple)]  # a state for each model
        answers = [one(words, own, images) for one, own in zip(steps, each, strict=True)]
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
