"""Scores of captions: corpus BLEU, ROUGE-L and CIDEr-D, each said with its protocol."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlmie.data.vocabulary import tokenize
from dlmie.errors import DataError
from dlmie.metrics_cider import CiderD
from dlmie.pointing import Pointing

__all__ = ["CiderD", "Scores", "bleu", "cider_d", "coverage", "rouge_l", "score"]

#: One caption as a list of words.
Tokens = Sequence[str]

#: Names of the scores, in the order in which they are shown.
NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")

_ORDERS = (1, 2, 3, 4)
_WEIGHTS = [(1 / order,) * order for order in _ORDERS]
_BETA = 1.2  # ROUGE-L: recall counts beta times as much as precision
_LEVEL = 0.95  # of the confidence intervals
_SHORT = (
    "a caption of fewer than n words counts as one missed n-gram in NLTK's BLEU, as none in "
    "coco-caption's (about 2e-5 on BLEU); {count} of {images} captions have fewer than 4 words"
)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of captions, as fractions, and how they were made.

    Attributes
    ----------
    bleu_1, bleu_2, bleu_3, bleu_4, rouge_l : float
        From 0 to 1.
    cider_d : float
        From 0 to 10.
    protocol : dict
        What makes the numbers comparable: split, decoding, references, tokenizer, versions.
    intervals : dict[str, tuple[float, float]]
        95 % bootstrap interval of each score; empty unless asked for.
    captions : list[str]
        What was scored.
    pointing : Pointing, optional
        Where the captioner looked, for data that say what is where.
    per_image : dict[str, numpy.ndarray]
        ``rouge_l``, ``cider_d`` and ``bleu_4_method2`` (sentence BLEU-4 smoothed by adding one
        to numerator and denominator, NLTK's ``SmoothingFunction.method2``) of each image. The
        mean of the last is **not** the corpus BLEU.
    """

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    cider_d: float
    protocol: dict[str, Any]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list, repr=False, compare=False)
    pointing: Pointing | None = field(default=None, compare=False)
    per_image: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def protocol_line(self) -> str:
        """The protocol as one line to print under the scores."""
        p, n = self.protocol, self.protocol["references_per_image"]
        count = f"{n['min']}" if n["min"] == n["max"] else f"{n['min']} to {n['max']}"
        parts = [
            p["split"] and f"split {p['split']}",
            f"{p['images']} images",
            f"{count} raw references each",
            p["decoding"] and f"decoding {p['decoding']}",
            f"tokenizer {p['tokenizer']}",
            f"unknown words: {p['unknown_words']}",
            f"unsmoothed corpus BLEU of NLTK {p['nltk']}",
            f"dlmie {p['dlmie']}",
        ]
        return "; ".join(filter(None, parts))

    def to_json(self) -> dict[str, Any]:
        """Plain values: the scores at the top level, ``NAME_interval`` if there are any."""
        ends = {f"{name}_interval": list(ends) for name, ends in self.intervals.items()}
        scores = {name: getattr(self, name) for name in NAMES}
        pointing = self.pointing.to_json() if self.pointing else {}
        return scores | ends | pointing | {"protocol": self.protocol}

    def __str__(self) -> str:
        lines = []
        for name in NAMES:
            ends = self.intervals.get(name)
            interval = f"  ({ends[0]:.4f} to {ends[1]:.4f})" if ends else ""
            lines.append(f"{name:8s} {getattr(self, name):.4f}{interval}")
        if self.pointing:
            lines.append(str(self.pointing))
        return "\n".join([*lines, self.protocol_line])


def score(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: str = "words",
    bootstrap: int = 0,
    seed: int = 0,
    *,
    split: str | None = None,
    decoding: str | None = None,
    unknown_words: str = "as they stand",
) -> Scores:
    """Score captions that a captioner made by itself against raw references.

    Parameters
    ----------
    hypotheses
        One caption an image, as text; it may be empty.
    references
        Per image its references, as text: raw, never mapped to a vocabulary.
    tokenizer
        How both are split into words; see :func:`dlmie.data.vocabulary.tokenize`.
    bootstrap
        Resample the images so many times for 95 % percentile intervals (0: none). CIDEr-D keeps
        the document frequencies of the whole set.
    seed
        Of the resampling.
    split, decoding, unknown_words
        Words for the protocol: which images, how the captions were searched, what became of
        words outside the vocabulary.

    Raises
    ------
    DataError
        If the lists do not match, an image has no reference, or a caption is not text.

    Examples
    --------
    >>> scores = score(["a red dog runs fast"], [["a red dog runs", "the dog runs fast"]])
    >>> round(scores.bleu_1, 4), scores.protocol["references_per_image"]
    (1.0, {'min': 2, 'max': 2})
    """
    _check(hypotheses, references, "text", str)
    words = [tokenize(text, tokenizer) for text in hypotheses]
    reference_words = [[tokenize(text, tokenizer) for text in texts] for texts in references]
    # (images, 4 matches + 4 totals + 2 lengths)
    counts = np.array([_bleu_counts(*pair) for pair in zip(words, reference_words, strict=True)])
    rouge = np.array([_rouge_l(*pair) for pair in zip(words, reference_words, strict=True)])
    cider = CiderD(reference_words)
    ciders = np.array([cider.score(tokens, image) for image, tokens in enumerate(words)])

    sizes = [len(captions) for captions in references]
    protocol: dict[str, Any] = {
        "split": split,
        "images": len(words),
        "references_per_image": {"min": min(sizes), "max": max(sizes)},
        "references": "raw text, no word replaced",
        "decoding": decoding,
        "unknown_words": unknown_words,
        "tokenizer": tokenizer,
        "short_captions": _SHORT.format(count=_short(words), images=len(words)),
        **_versions(),
    }
    intervals = {}
    if bootstrap:
        protocol["bootstrap"] = {"samples": bootstrap, "seed": seed, "level": _LEVEL}
        intervals = _intervals(counts, rouge, ciders, bootstrap, seed)
    return Scores(
        *bleu(words, reference_words),
        float(rouge.mean()),
        float(ciders.mean()),
        protocol=protocol,
        intervals=intervals,
        captions=list(hypotheses),
        per_image={
            "bleu_4_method2": _combine_bleu(counts, add=1)[:, -1],
            "rouge_l": rouge,
            "cider_d": ciders,
        },
    )


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
        One caption an image, each a list of words; it may be empty.
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

    _check(hypotheses, references, "a list of words", (list, tuple))
    values = corpus_bleu(references, hypotheses, _WEIGHTS, smoothing_function=_unsmoothed)
    # A corpus of n-grams gives no score so small: it stands for a precision of zero.
    one, two, three, four = (float(value) if value > 1e-50 else 0.0 for value in values)
    return one, two, three, four


def rouge_l(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """ROUGE-L, as coco-caption defines it (Lin 2004, section 3): the mean over images.

    With P the largest share of the caption, and R the largest share of a reference, that a
    longest common subsequence covers: F = (1 + β²) P R / (R + β² P), β = 1.2.

    Parameters and errors as :func:`bleu`.
    """
    _check(hypotheses, references, "a list of words", (list, tuple))
    return float(np.mean([_rouge_l(*pair) for pair in zip(hypotheses, references, strict=True)]))


def cider_d(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """CIDEr-D, the mean over images of :class:`CiderD`; parameters and errors as :func:`bleu`."""
    _check(hypotheses, references, "a list of words", (list, tuple))
    cider = CiderD(references)
    return float(np.mean([cider.score(tokens, image) for image, tokens in enumerate(hypotheses)]))


def coverage(references: Iterable[Iterable[Tokens]], vocabulary: Container[str]) -> float:
    """Share of all words of the references that a vocabulary holds, from 0 to 1."""
    known = [word in vocabulary for captions in references for words in captions for word in words]
    return float(np.mean(known)) if known else 0.0


def _check(
    hypotheses: Sequence[Any],
    references: Sequence[Sequence[Any]],
    meaning: str,
    kind: type | tuple[type, ...],
) -> None:
    """Every caption is of the expected kind, every image has one caption and its references."""
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses)} captions but references of {len(references)} images: "
            "give exactly one caption an image"
        )
    if not len(hypotheses):
        raise DataError("there is no caption to score")
    for image, (hypothesis, captions) in enumerate(zip(hypotheses, references, strict=True)):
        if not isinstance(hypothesis, kind):
            raise DataError(
                f"caption {image} is {type(hypothesis).__name__}: give each as {meaning}"
            )
        if isinstance(captions, str) or not all(isinstance(c, kind) for c in captions):
            raise DataError(
                f"references of image {image}: give a list of references, each as {meaning}"
            )
        if not len(captions):
            raise DataError(f"image {image} has no reference: leave it out or add one")


def _unsmoothed(precisions: list[Any], **_: Any) -> list[Any]:
    """NLTK's own choice (method 0) without its warning: a precision of zero almost is zero."""
    return [p if p.numerator else sys.float_info.min for p in precisions]


def _bleu_counts(hypothesis: Tokens, references: Sequence[Tokens]) -> list[int]:
    """What one image adds to corpus BLEU: matches and totals per order, the two lengths."""
    from nltk.translate.bleu_score import closest_ref_length, modified_precision

    precisions = [modified_precision(references, hypothesis, order) for order in _ORDERS]
    matches = [precision.numerator for precision in precisions]
    totals = [precision.denominator for precision in precisions]
    length = len(hypothesis)
    return [*matches, *totals, length, closest_ref_length(references, length)]


def _combine_bleu(counts: np.ndarray, add: int = 0) -> np.ndarray:
    """BLEU-1 to 4 of summed counts: (…, 10) → (…, 4); ``add`` smooths the orders above one."""
    matches, totals, lengths = np.split(counts.astype(float), [4, 8], axis=-1)
    matches[..., 1:] += add
    totals[..., 1:] += add
    with np.errstate(divide="ignore"):
        logs = np.log(matches / totals)
    penalty = np.minimum(0, 1 - lengths[..., 1] / np.maximum(lengths[..., 0], 1))
    means = np.cumsum(logs, axis=-1) / np.array(_ORDERS)
    return np.exp(means + penalty[..., None])


def _rouge_l(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
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


def _intervals(
    counts: np.ndarray, rouge: np.ndarray, cider: np.ndarray, samples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over images (Koehn 2004)."""
    images = len(counts)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), samples)
    columns = np.column_stack(  # (samples, 6)
        [_combine_bleu(draws @ counts), draws @ rouge / images, draws @ cider / images]
    )
    low, high = np.quantile(columns, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return dict(zip(NAMES, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _short(words: Sequence[Tokens]) -> int:
    return sum(len(tokens) < len(_ORDERS) for tokens in words)


def _versions() -> dict[str, str]:
    import nltk

    import dlmie

    return {"nltk": nltk.__version__, "dlmie": dlmie.__version__}
