"""Splits captioned and scored: free-running captions against raw references."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.decoding import Caption, Decoding, DecodingOptions
from dlmie.captioning.features import features_of, mean_of_flipped
from dlmie.captioning.metrics import Scores, coverage, score
from dlmie.captioning.metrics.pointing import pointing
from dlmie.captioning.model_files import load
from dlmie.data.batches import Batch
from dlmie.data.captions.dataset import Split
from dlmie.data.captions.feature_cache import Features, FeatureSource
from dlmie.data.captions.tokenizers import CONTRACT
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images.views import MIRRORED
from dlmie.data.scenes import scenes_of, truth
from dlmie.errors import DataError
from dlmie.models.captioners.captioner import Captioner
from dlmie.parallel import in_turns, world


def decode_in_batches(
    captioner: ImageCaptioner,
    read: Callable[[np.ndarray], Sequence[np.ndarray]],
    images: int,
    decoding: Decoding,
    *,
    batch: int = 32,
    progress: bool = False,
) -> Iterator[list[Caption]]:
    """Caption images 0 … ``images - 1`` a batch at a time; ``read`` gives their annotations.

    Several ranks work on a batch each, and all of them get all captions.
    """
    from dlmie.progress import Bar

    def decode(starts: Iterator[int]) -> Iterator[list[list[Caption]]]:
        for start in starts:
            index = np.arange(start, min(start + batch, images))
            yield captioner.decode(read(index), decoding, keys=index.tolist())

    with Bar(total=images, unit="image", disable=not progress, leave=False) as bar:
        for _, captions in in_turns(range(0, images, batch), decode, world()):
            yield from captions
            bar.update(len(captions))


def split_reader(
    captioner: ImageCaptioner, split: Split, features: FeatureSource | None = None
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that gives the annotations of images of a split by number.

    They come from a feature cache where one is given, else from the photographs.

    Raises
    ------
    DataError
        The cache is of other data or of another encoder than the captioner's (names every
        difference), or lacks mirrored images that the captioner needs.
    """
    if features is None:
        return lambda index: captioner.features(list(split.load_images(index)))
    kept = features if isinstance(features, Features) else Features(features)
    for member in captioner.members:
        check_features(kept, member, split)
    average = [member.average_flip for member in captioner.members]

    def read(index: np.ndarray) -> list[np.ndarray]:
        rows = kept.read(split.name, index)
        if not any(average):
            return [rows] * len(average)
        mean = mean_of_flipped(rows, kept.read(split.name, index, MIRRORED))
        return [mean if wanted else rows for wanted in average]

    return read


def check_features(features: Features, member: Member, split: Split) -> None:
    """Raise a DataError unless a cache holds what the model's encoder makes of a split's data."""
    encoder = member.encoder_header
    if member.finetuned:
        raise DataError(
            f"{member.path} was trained together with its encoder: features that were kept before "
            "do not fit; leave them out"
        )
    features.check_matches(features_of(encoder, split.data_hash, split.size))
    if member.average_flip and not features.header["flip"]:
        raise DataError(
            f"{features.path} holds no features of mirrored images, which {member.path} averages: "
            "make them with dlmie features --flip --overwrite, or leave the features out"
        )


def caption_split(
    captioner: ImageCaptioner,
    split: Split,
    decoding: Decoding,
    *,
    features: FeatureSource | None = None,
    progress: bool = False,
) -> list[Caption]:
    """The best caption of each image of a split; ``features`` as for :func:`split_reader`."""
    read = split_reader(captioner, split, features)
    decoded = decode_in_batches(captioner, read, len(split), decoding, progress=progress)
    return [captions[0] for captions in decoded]


def loss_per_word(model: Captioner, batches: Iterable[Batch]) -> float:
    """Teacher-forced negative log-likelihood a word, in nats and without dropout, of batches."""
    return mean_of_sums(summed_loss(model, batch) for batch in batches)


def summed_loss(model: Captioner, batch: Batch) -> tuple[float, float]:
    """The teacher-forced loss of a batch in nats, and how many words it is of."""
    loss, words = model.loss_function(batch.inputs, batch.tokens)
    return float(loss), float(words)


def mean_of_sums(sums: Iterable[tuple[float, float]]) -> float:
    """The loss per word of several sums of losses and their numbers of words."""
    total = words = 0.0
    for loss, count in sums:
        total, words = total + loss, words + count
    return total / max(words, 1)


def evaluate(
    captioner: ImageCaptioner | str | Path | Sequence[str | Path],
    split: Split,
    *,
    features: FeatureSource | None = None,
    bootstrap: int = 0,
    tokenizer: str | None = None,
    progress: bool = False,
    **options: Unpack[DecodingOptions],
) -> Scores:
    """Score a captioner's free-running captions of a split against its raw references.

    Parameters
    ----------
    captioner
        A loaded captioner, or what :func:`load` takes.
    split : dlmie.data.captions.dataset.Split
        ``Captions("flickr8k.h5")["dev"]``.
    features : Features or path, optional
        Cached annotations of the same encoder; without, the photographs are encoded.
    bootstrap : int
        Resamplings for confidence intervals; 0 for none.
    tokenizer : str, optional
        How captions and references are split; default: as the captioner's words were.
    **options
        Fields of :class:`~dlmie.captioning.decoding.Decoding`; others are as the model's file says.

    Returns
    -------
    Scores
        BLEU-1..4, ROUGE-L, CIDEr-D with the protocol; ``captions`` holds what was said. With
        ``pointing`` where the captioner attends and the data say what is where, and ``truth`` for
        scenes that dlmie drew.
    """
    if not isinstance(captioner, ImageCaptioner):
        captioner = load(captioner)
    decoding = captioner.decoding(**options)
    said = caption_split(captioner, split, decoding, features=features, progress=progress)
    return score_captions(
        captioner, split, said, decoding, bootstrap=bootstrap, tokenizer=tokenizer
    )


def score_captions(
    captioner: ImageCaptioner,
    split: Split,
    said: Sequence[Caption],
    decoding: Decoding,
    *,
    bootstrap: int = 0,
    tokenizer: str | None = None,
) -> Scores:
    """Score captions that were decoded for a split, with the protocol they came about by.

    Unless another ``tokenizer`` is named, captions and references are split as the captioner's own
    words were: by another one the same captions have another score.
    """
    vocabulary = captioner.vocabulary
    scores = score(
        [caption.text for caption in said],
        split.references,
        vocabulary.tokenizer if tokenizer is None else tokenizer,
        contract=vocabulary.contract if tokenizer is None else CONTRACT,
        bootstrap=bootstrap,
        split=split.name,
        decoding=decoding.describe(),
        unknown_words="as they stand" if decoding.allow_unknown else "never said",
    )
    words = reference_words(split, vocabulary)
    scores.protocol["vocabulary"] = len(vocabulary)
    scores.protocol["vocabulary_coverage"] = coverage(words, vocabulary)
    scores.protocol["data_hash"] = split.hash
    scores.protocol["models"] = len(captioner.members)
    if any(member.average_flip for member in captioner.members):
        scores.protocol["annotations"] = "the mean of image and mirror image"
    scenes = scenes_of(split.names, split.source)
    if scenes is not None:
        scores = replace(scores, truth=truth(scores.captions, scenes))
    if split.objects is not None and all(caption.alphas is not None for caption in said):
        return replace(scores, pointing=pointing(said, split.objects))
    return scores


def reference_words(split: Split, vocabulary: Vocabulary) -> list[list[list[str]]]:
    """The references of each image of a split as lists of words."""
    return [[vocabulary.tokenize(text) for text in texts] for texts in split.references]
