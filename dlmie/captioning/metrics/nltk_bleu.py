"""Corpus BLEU by NLTK, and the counts that it is made of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dlmie.captioning.metrics.checks import Tokens, check_captions

ORDERS = (1, 2, 3, 4)
_WEIGHTS = [(1 / order,) * order for order in ORDERS]


def bleu(
    hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> tuple[float, float, float, float]:
    """Corpus BLEU-1 to BLEU-4 by NLTK, unsmoothed.

    Matches and lengths are summed over all images before the division (Papineni et al. 2002),
    against the closest reference length. A score is 0 where no n-gram of its order matches
    (NLTK: 1e-77 or 1e-154, with a warning).

    Parameters
    ----------
    hypotheses
        One caption per image, each a list of words; it may be empty.
    references
        Per image its references, each a list of words.

    Raises
    ------
    DataError
        If the lists do not match or a caption is text: NLTK would score its characters.

    Examples
    --------
    >>> bleu([["a", "red", "dog"]], [[["a", "red", "cat"], ["the", "dog"]]])[:2]
    (1.0, 0.7071067811865476)
    """
    from nltk.translate.bleu_score import corpus_bleu

    check_captions(hypotheses, references)
    values = corpus_bleu(references, hypotheses, _WEIGHTS, smoothing_function=_unsmoothed)
    # A corpus of n-grams gives no score so small: it stands for a precision of zero.
    one, two, three, four = (float(value) if value > 1e-50 else 0.0 for value in values)
    return one, two, three, four


def _unsmoothed(precisions: list[Fraction], **_: object) -> list[Fraction | float]:
    """NLTK's own choice (method 0) without its warning: a precision of zero almost is zero."""
    return [p if p.numerator else sys.float_info.min for p in precisions]


def bleu_counts(hypothesis: Tokens, references: Sequence[Tokens]) -> list[int]:
    """What one image adds to corpus BLEU: matches and totals per order, the two lengths."""
    from nltk.translate.bleu_score import closest_ref_length, modified_precision

    precisions = [modified_precision(references, hypothesis, order) for order in ORDERS]
    matches = [precision.numerator for precision in precisions]
    totals = [precision.denominator for precision in precisions]
    length = len(hypothesis)
    return [*matches, *totals, length, closest_ref_length(references, length)]


def combine_counts(counts: np.ndarray, add: int = 0) -> np.ndarray:
    """BLEU-1 to 4 of summed counts: (…, 10) → (…, 4); ``add`` smooths the orders above one."""
    matches, totals, lengths = np.split(counts.astype(float), [4, 8], axis=-1)
    matches[..., 1:] += add
    totals[..., 1:] += add
    with np.errstate(divide="ignore"):
        logs = np.log(matches / totals)
    penalty = np.minimum(0, 1 - lengths[..., 1] / np.maximum(lengths[..., 0], 1))
    means = np.cumsum(logs, axis=-1) / np.array(ORDERS)
    return np.exp(means + penalty[..., None])
