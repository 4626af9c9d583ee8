"""CIDEr-D of one caption at a time, fast enough to be a training reward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np

from dlmie.captioning.metrics.checks import Tokens, check_captions
from dlmie.errors import DataError

NGram = tuple[str, ...]

_ORDERS = (1, 2, 3, 4)
_SIGMA = 6.0  # of the Gaussian penalty on the difference of lengths
_SCALE = 10.0  # the paper's factor that brings scores to the order of 1


class _Image(NamedTuple):
    """References of one image, turned around: which of them hold an n-gram, with what weight."""

    # n-gram -> (reference, weight g, g / |reference's vector of that order|), …
    holders: dict[NGram, list[tuple[int, float, float]]]
    lengths: list[int]


class CiderD:
    """CIDEr-D against fixed references: document frequencies are counted once.

    What coco-caption's scorer named Cider computes (Vedantam et al. 2015, equation 2 with
    section 5's clipping and length penalty): per order n = 1…4 the cosine of TF-IDF vectors with
    the caption's weights clipped to the reference's, times exp(-(difference of lengths)²/72),
    averaged over orders and references, times 10. A document is an image with all its references.

    Parameters
    ----------
    references
        Per image its references, each a list of words.
    keep
        So many images' vectors stay in memory (about 40 kB each); others are made when needed.

    Raises
    ------
    DataError
        If there is no image, an image has no reference, or a reference is text.

    Attributes
    ----------
    tells : bool
        Whether any n-gram stands in the references of some images but not of others. Otherwise
        every score is 0, whatever a caption says: CIDEr-D is not defined.

    Examples
    --------
    >>> cider = CiderD([[["a", "red", "dog"], ["a", "dog"]], [["two", "cats"]]])
    >>> cider.score(["two", "cats"], 1) > cider.score(["two", "dogs"], 1) > 0
    True
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]], keep: int = 8192) -> None:
        if not references:
            raise DataError("CIDEr-D needs the references of at least one image")
        for index, captions in enumerate(references):
            if not captions or any(isinstance(caption, str) for caption in captions):
                raise DataError(
                    f"image {index}: CIDEr-D takes a list of references, each a list of words"
                )
        self._references = references
        self._unseen = log(len(references))
        self.tells = False
        self._idf = dict(chain.from_iterable(map(self._frequent, _ORDERS)))
        self._image = lru_cache(maxsize=keep)(self._index_image)

    def __len__(self) -> int:
        return len(self._references)

    def score(self, hypothesis: Sequence[str], image: int) -> float:
        """Score one caption.

        Parameters
        ----------
        hypothesis
            Its words.
        image
            Which image's references.

        Returns
        -------
        float
            From 0 to 10; 0 for an empty caption, and always 0 if there is only one image, where
            no word tells anything.
        """
        if isinstance(hypothesis, str):
            raise DataError("CIDEr-D takes a caption as a list of words, not as text: split it")
        holders, lengths = self._image(image)
        similarity = [0.0] * len(lengths)
        for weights, norm in self._vectors(hypothesis):
            for ngram, weight in weights.items():
                for reference, held, held_unit in holders.get(ngram, ()):
                    clipped = weight if weight < held else held
                    similarity[reference] += clipped * held_unit / norm
        own_length = _length(hypothesis)
        penalised = (
            value * exp(-((own_length - length) ** 2) / (2 * _SIGMA**2))
            for value, length in zip(similarity, lengths, strict=True)
        )
        return _SCALE * sum(penalised) / (len(_ORDERS) * len(lengths))

    def _frequent(self, order: int) -> list[tuple[NGram, float]]:
        """Inverse document frequencies of the n-grams in two images or more.

        All others weigh log(images), as those do that no reference holds: leaving them out keeps
        memory small, since most n-grams stand in one image only.
        """
        images: Counter[NGram] = Counter()
        for captions in self._references:
            images.update(set(chain.from_iterable(_ngrams(tokens, order) for tokens in captions)))
        self.tells |= any(count < len(self._references) for count in images.values())
        return [(ngram, self._unseen - log(n)) for ngram, n in images.items() if n > 1]

    def _vectors(self, tokens: Sequence[str]) -> list[tuple[dict[NGram, float], float]]:
        """TF-IDF weights and their Euclidean norm, per order; a zero norm becomes 1."""
        vectors = []
        for order in _ORDERS:
            counts = Counter(_ngrams(tokens, order))
            weights = {g: n * self._idf.get(g, self._unseen) for g, n in counts.items()}
            norm = sqrt(sum(weight * weight for weight in weights.values()))
            vectors.append((weights, norm or 1.0))
        return vectors

    def _index_image(self, image: int) -> _Image:
        holders: dict[NGram, list[tuple[int, float, float]]] = {}
        captions = self._references[image]
        for reference, tokens in enumerate(captions):
            for weights, norm in self._vectors(tokens):
                for ngram, weight in weights.items():
                    holders.setdefault(ngram, []).append((reference, weight, weight / norm))
        return _Image(holders, [_length(tokens) for tokens in captions])


def cider_d(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> float:
    """CIDEr-D, the mean over images of :class:`CiderD`; for parameters and errors see
    :func:`~dlmie.captioning.metrics.bleu`."""
    check_captions(hypotheses, references)
    cider = CiderD(references)
    return float(np.mean([cider.score(tokens, image) for image, tokens in enumerate(hypotheses)]))


def _ngrams(tokens: Sequence[str], order: int) -> zip[NGram]:
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def _length(tokens: Sequence[str]) -> int:
    """Length as the original scorer counts it: in pairs of words, so "" and "dog" are alike."""
    return max(len(tokens) - 1, 0)
