"""All scores of a set of captions, said with their protocol."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from dlmie.captioning.metrics.checks import Tokens, check_captions
from dlmie.captioning.metrics.cider import CiderD
from dlmie.captioning.metrics.nltk_bleu import ORDERS, bleu, bleu_counts, combine_counts
from dlmie.captioning.metrics.pointing import Pointing
from dlmie.captioning.metrics.rouge import image_rouge_l
from dlmie.data.captions.tokenizers import CONTRACT, one_word_note, tokenize, tokenizer_label
from dlmie.data.scenes.claims import Truth
from dlmie.errors import DataError
from dlmie.typing import JsonObject

#: Names of the scores, in the order in which they are shown.
NAMES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d")

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
    bleu_1, bleu_2, bleu_3, bleu_4 : float or None
        From 0 to 1; None where no caption and no reference has so many words.
    rouge_l : float
        From 0 to 1.
    cider_d : float or None
        From 0 to 10; None where no word tells one image from another, as with a single image.
    protocol : dict
        What makes the numbers comparable: split, decoding, references, tokenizer, versions.
    intervals : dict[str, tuple[float, float]]
        95 % bootstrap interval of each score; empty unless asked for.
    captions : list[str]
        What was scored.
    pointing : Pointing, optional
        Where the captioner looked, for data that say what is where.
    truth : Truth, optional
        How true the captions are, for scenes that dlmie drew.
    per_image : dict[str, numpy.ndarray]
        ``rouge_l``, ``cider_d`` and ``bleu_4_method2`` (sentence BLEU-4 smoothed by adding one
        to numerator and denominator, NLTK's ``SmoothingFunction.method2``) of each image; no score
        that is None. The mean of the last is **not** the corpus BLEU.
    notes : list[str]
        Which scores are not defined and why, and what looks odd.
    """

    bleu_1: float | None
    bleu_2: float | None
    bleu_3: float | None
    bleu_4: float | None
    rouge_l: float
    cider_d: float | None
    protocol: JsonObject
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    captions: list[str] = field(default_factory=list, repr=False, compare=False)
    pointing: Pointing | None = field(default=None, compare=False)
    truth: Truth | None = field(default=None, compare=False)
    per_image: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    notes: list[str] = field(default_factory=list, compare=False)

    @property
    def protocol_line(self) -> str:
        """The protocol as one line to print under the scores."""
        p, n = self.protocol, self.protocol["references_per_image"]
        count = f"{n['min']}" if n["min"] == n["max"] else f"{n['min']} to {n['max']}"
        parts = [
            p["split"] and f"split {p['split']}",
            f"{p['images']} images",
            f"{count} raw references each",
            p["references_left_out"]
            and f"{p['references_left_out']} references without words left out",
            p["decoding"] and f"decoding {p['decoding']}",
            p.get("annotations") and f"annotations: {p['annotations']}",
            f"tokenizer {tokenizer_label(p['tokenizer'], p['tokenizer_contract'])}",
            f"unknown words: {p['unknown_words']}",
            f"unsmoothed corpus BLEU of NLTK {p['nltk']}",
            f"dlmie {p['dlmie']}",
        ]
        return "; ".join(filter(None, parts))

    def to_json(self) -> JsonObject:
        """Plain values: the scores at the top level, intervals and notes if there are any."""
        ends = {f"{name}_interval": list(ends) for name, ends in self.intervals.items()}
        scores = {name: getattr(self, name) for name in NAMES}
        pointing = self.pointing.to_json() if self.pointing else {}
        truth = self.truth.to_json() if self.truth else {}
        notes = {"notes": self.notes} if self.notes else {}
        return scores | ends | truth | pointing | notes | {"protocol": self.protocol}

    def __str__(self) -> str:
        lines = []
        for name in NAMES:
            ends = self.intervals.get(name)
            interval = f"  ({ends[0]:.4f} to {ends[1]:.4f})" if ends else ""
            lines.append(f"{name:8s} {score_text(getattr(self, name))}{interval}")
        lines += [str(more) for more in (self.truth, self.pointing) if more]
        return "\n".join([*lines, *self.notes, self.protocol_line])


def score_text(value: float | None) -> str:
    """A score in four decimals; one that is not defined as a dash."""
    return "-" if value is None else f"{value:.4f}"


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
    contract: int = CONTRACT,
) -> Scores:
    """Score captions that a captioner made by itself against raw references.

    Parameters
    ----------
    hypotheses
        One caption per image, as text; it may be empty.
    references
        Per image its references, as text: raw, never mapped to a vocabulary. Those without words
        are left out and counted in the protocol.
    tokenizer, contract
        How both are split into words; see :func:`dlmie.data.captions.tokenizers.tokenize`.
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
        If the lists do not match, an image has no reference with words, or a caption is not text.

    Examples
    --------
    >>> scores = score(["a red dog runs fast"], [["a red dog runs", "the dog runs fast"]])
    >>> round(scores.bleu_1, 4), scores.protocol["references_per_image"]
    (1.0, {'min': 2, 'max': 2})
    """
    check_captions(hypotheses, references, "text", str)
    words = [tokenize(text, tokenizer, contract) for text in hypotheses]
    reference_words, left_out = _with_words(references, tokenizer, contract)
    # (images, 4 matches + 4 totals + 2 lengths)
    counts = np.array([bleu_counts(*pair) for pair in zip(words, reference_words, strict=True)])
    rouge = np.array([image_rouge_l(*pair) for pair in zip(words, reference_words, strict=True)])
    cider = CiderD(reference_words)
    ciders = np.array([cider.score(tokens, image) for image, tokens in enumerate(words)])

    undefined, notes = _undefined(words, reference_words, cider)
    note = one_word_note([tokens for texts in reference_words for tokens in texts], tokenizer)
    sizes = [len(captions) for captions in reference_words]
    protocol: JsonObject = {
        "split": split,
        "images": len(words),
        "references_per_image": {"min": min(sizes), "max": max(sizes)},
        "references": "raw text, no word replaced",
        "references_left_out": left_out,
        "decoding": decoding,
        "unknown_words": unknown_words,
        "tokenizer": tokenizer,
        "tokenizer_contract": contract,
        "short_captions": _SHORT.format(count=_short(words), images=len(words)),
        **_versions(),
    }
    intervals = {}
    if bootstrap:
        protocol["bootstrap"] = {"samples": bootstrap, "seed": seed, "level": _LEVEL}
        every = _intervals(counts, rouge, ciders, bootstrap, seed)
        intervals = {name: ends for name, ends in every.items() if name not in undefined}
    totals = (*bleu(words, reference_words), float(rouge.mean()), float(ciders.mean()))
    values = {
        name: None if name in undefined else value
        for name, value in zip(NAMES, totals, strict=True)
    }
    per_image = {
        "bleu_4_method2": combine_counts(counts, add=1)[:, -1],
        "rouge_l": rouge,
        "cider_d": ciders,
    }
    return Scores(
        **values,  # type: ignore[arg-type]
        protocol=protocol,
        intervals=intervals,
        captions=list(hypotheses),
        per_image={name: each for name, each in per_image.items() if name not in undefined},
        notes=[*notes, *([note] if note else [])],
    )


def _with_words(
    references: Sequence[Sequence[str]], tokenizer: str, contract: int
) -> tuple[list[list[list[str]]], int]:
    """The references as words, and how many were left out because they have none.

    A reference of no words would be the closest in length to any caption that is too short, and so
    switch the brevity penalty off.
    """
    result, left_out = [], 0
    for image, texts in enumerate(references):
        split = [tokenize(text, tokenizer, contract) for text in texts]
        kept = [words for words in split if words]
        if not kept:
            raise DataError(f"image {image} has no reference with words: leave it out or add one")
        left_out += len(split) - len(kept)
        result.append(kept)
    return result, left_out


def _undefined(
    words: Sequence[Tokens], references: Sequence[Sequence[Tokens]], cider: CiderD
) -> tuple[set[str], list[str]]:
    """Names of the scores that say nothing about these captions, and a note for each."""
    longest = max(map(len, [*words, *(tokens for texts in references for tokens in texts)]))
    names = {f"bleu_{order}" for order in ORDERS if order > longest}
    notes = [
        f"{name} is not defined: no caption and no reference has {name[-1]} words"
        for name in sorted(names)
    ]
    if not cider.tells:
        names.add("cider_d")
        only = "there is one image" if len(words) == 1 else "all images have the same references"
        notes.append(f"cider_d is not defined: {only}, so that no word tells one from another")
    return names, notes


def coverage(references: Iterable[Iterable[Tokens]], vocabulary: Container[str]) -> float:
    """Share of all words of the references that a vocabulary holds, from 0 to 1."""
    known = [word in vocabulary for captions in references for words in captions for word in words]
    return float(np.mean(known)) if known else 0.0


def _intervals(
    counts: np.ndarray, rouge: np.ndarray, cider: np.ndarray, samples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over images (Koehn 2004)."""
    images = len(counts)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), samples)
    columns = np.column_stack(  # (samples, 6)
        [combine_counts(draws @ counts), draws @ rouge / images, draws @ cider / images]
    )
    low, high = np.quantile(columns, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return dict(zip(NAMES, zip(low.tolist(), high.tolist(), strict=True), strict=True))


def _short(words: Sequence[Tokens]) -> int:
    return sum(len(tokens) < len(ORDERS) for tokens in words)


def _versions() -> dict[str, str]:
    import nltk

    import dlmie

    return {"nltk": nltk.__version__, "dlmie": dlmie.__version__}
