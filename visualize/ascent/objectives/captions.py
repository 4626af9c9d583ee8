"""Objectives of captioners: how likely a sentence is for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import END, START, UNK
from dlmie.errors import DlmieError
from dlmie.graph.network import View
from dlmie.models.captioners.captioner import Captioner
from dlmie.visualize.ascent.models import ImageCaptioner, network_of
from dlmie.visualize.ascent.objectives.terms import Objective, Term, layer_of, one_hot, single
from dlmie.visualize.ascent.objectives.units import class_energy


def caption_log_likelihood(
    model: Captioner,
    layer: Variable,
    tokens: np.ndarray,
    position: int | None = None,
    annotations: Callable[[View], Variable] | None = None,
) -> Objective:
    """``log p(sentence | image)`` of a captioner, through its decoder, attention and encoder.

    Parameters
    ----------
    model : Captioner
        Its symbolic ``loss(features, tokens).each`` is (time, batch).
    layer : symbolic variable
        The encoder's layer that the captioner reads: ``net["block10"]``.
    tokens : (batch or 1, time + 1) int32
        Word numbers with start and end.
    position : int, optional
        Only the log-probability of this word (0: the first), given those before it.
    annotations : callable, optional
        What the captioner sees of a view of the network, if more than the layer.
    """
    network, name = layer_of(layer)
    tokens = np.atleast_2d(np.asarray(tokens, dtype=np.int32))
    if position is not None and not 0 <= position < tokens.shape[1] - 1:
        raise DlmieError(f"the sentence has no word {position}")
    counted = np.ones((1, tokens.shape[1] - 1), model.dtype)
    if position is not None:
        counted = one_hot(position, tokens.shape[1] - 1, model.dtype, "the sentence")

    def build(view: View, data: list[Variable]) -> Variable:
        features = view[name] if annotations is None else annotations(view)
        words = data[0] + pt.zeros((features.shape[0], 1), dtype="int32")
        each = model.loss(features, words).each  # (time, batch)
        return -(each.T * data[1]).sum(axis=1)

    options = {"tokens": tokens.tolist(), "position": position}
    # Which word counts is data: each word of a caption needs no compilation of its own.
    compiled = {"model": id(model), "layer": name}
    return single(Term("caption", options, build, network, (tokens, counted), compiled))


def sentence_log_likelihood(
    captioner: ImageCaptioner, sentence: str, position: int | None = None
) -> Objective:
    """``log p(sentence | image)`` of a captioner, or of one of its words given those before.

    Parameters
    ----------
    captioner : ImageCaptioner
        From :func:`dlmie.load`; of an ensemble, its first model.
    sentence : str
    position : int, optional
        Of the word (0: the first).

    Raises
    ------
    DlmieError
        The sentence has no words, or some that the captioner does not know.

    Examples
    --------
    >>> sentence_log_likelihood(dlmie.load("flickr8k"), "a dog is running")  # doctest: +SKIP
    Objective(sentence_log_likelihood(a dog is running))
    """
    if not hasattr(captioner, "members"):
        raise DlmieError("the likelihood of a sentence needs a captioner, not a network: load one")
    words = captioner.vocabulary.tokenize(sentence)
    if not words:
        raise DlmieError("the sentence has no words")
    ids = captioner.vocabulary.encode(words)
    unknown = [word for word, number in zip(words, ids, strict=True) if number == UNK]
    if unknown:
        raise DlmieError(f"the captioner does not know the words {', '.join(unknown)}")
    member = captioner.members[0]
    layer = member.encoder.network[member.encoder.layer]
    likelihood = caption_log_likelihood(
        member.model,
        layer,
        np.array([[START, *ids, END]], np.int32),
        position,
        member.encoder.annotations,
    )
    ((_, term),) = likelihood.terms
    options = {"sentence": sentence, "position": position}
    compiled = {**term.compiled, "average_flip": member.encoder.average_flip}
    named = replace(term, kind="sentence_log_likelihood", captioner=captioner)
    return single(replace(named, options=options, compiled=compiled))


def sentence_with_class_energy(captioner: ImageCaptioner, sentence: str) -> Objective:
    """A sentence that is likely for an image in which the encoder sees objects of any class.

    ``1/n log p(sentence | image) + 0.1 log Σ_k exp(y_k)`` with n words, the end counted, and the
    logits y of the captioner's encoder.  The log-likelihood alone is high for mere textures; see
    :func:`sentence_log_likelihood` and ``class_energy``.

    Examples
    --------
    >>> sentence_with_class_energy(dlmie.load("flickr8k"), "a dog is running")  # doctest: +SKIP
    Objective(0.2 × sentence_log_likelihood(a dog is running) + 0.1 × class_energy(logits))
    """
    likelihood = sentence_log_likelihood(captioner, sentence)
    words = len(captioner.vocabulary.tokenize(sentence)) + 1
    return (1 / words) * likelihood + 0.1 * class_energy(network_of(captioner)["logits"])
