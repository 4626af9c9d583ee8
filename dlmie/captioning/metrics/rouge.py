"""ROUGE-L: the longest common subsequence of a caption and its references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlmie.captioning.metrics.checks import Tokens, check_captions

_BETA = 1.2  # recall counts beta times as much as precision


def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """ROUGE-L, as coco-caption defines it (Lin 2004, section 3): the mean over images.

    With P the largest share of the caption, and R the largest share of a reference, that a
    longest common subsequence covers: F = (1 + β²) P R / (R + β² P), β = 1.2.

    Parameters and errors as :func:`~dlmie.captioning.metrics.bleu`.
    """
    check_captions(hypotheses, references)
    return float(
        np.mean([image_rouge_l(*pair) for pair in zip(hypotheses, references, strict=True)])
    )


def image_rouge_l(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L of one image's caption."""
    common = [_common_subsequence(hypothesis, reference) for reference in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(hypothesis)
    recall = max(n / len(r) for n, r in zip(common, references, strict=True) if n)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common_subsequence(first: Tokens, second: Tokens) -> int:
    """Length of the longest common subsequence, a row of the table as one integer's bits.

    Hyyrö, "Bit-parallel LCS-length computation revisited" (2004): a zero bit is a step up.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << place
    full = row = (1 << len(second)) - 1
    for word in first:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(second) - row.bit_count()
