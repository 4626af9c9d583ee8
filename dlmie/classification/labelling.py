"""Photographs in, classes out: what a trained classifier takes images for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from dlmie.data.images import ImageError, ImageSource, load_image
from dlmie.data.prefetch import prefetch
from dlmie.models.classifiers.image_classifier import ImageClassifier
from dlmie.parallel import in_turns, world

Source = TypeVar("Source", bound=ImageSource)


@dataclass(frozen=True)
class Label:
    """One class that an image may be of.

    Attributes
    ----------
    index : int
    label : str
        Its name.
    probability : float
        Of the softmax over the scores; of a model that learned by the hinge loss, no more than an
        order.
    """

    index: int
    label: str
    probability: float


def classify(
    model: ImageClassifier,
    images: Iterable[Source],
    *,
    top: int = 5,
    batch: int = 64,
    done: Collection[object] = (),
) -> Iterator[tuple[Source, list[Label] | ImageError]]:
    """Name what images show; they are resized to those that the model learned from.

    Several ranks work on a batch each, and all of them get all answers.

    Parameters
    ----------
    model : ImageClassifier
    images : iterable
        Paths, or what :func:`dlmie.data.images.load_image` takes.
    top : int
        Classes named for each image, the most probable first.
    batch : int
        Images at a time.
    done : collection
        Images to pass over.

    Yields
    ------
    tuple
        The image as it was given, with its classes or the error that says why it cannot be read.
    """

    def batches() -> Iterator[list[Source]]:
        rest = (image for image in images if image not in done)
        while chosen := list(islice(rest, batch)):
            yield chosen

    def work(chosen: Iterator[list[Source]]) -> Iterator[list[list[Label] | ImageError]]:
        loaded = ([pixels(model, image) for image in each] for each in chosen)
        with closing(prefetch(loaded, 1)) as ready:
            for items in ready:
                read = [x for x in items if isinstance(x, np.ndarray)]
                rows = iter(labels(model, np.array(read), top=top) if read else ())
                yield [x if isinstance(x, ImageError) else next(rows) for x in items]

    for chosen, answers in in_turns(batches(), work, world()):
        yield from zip(chosen, answers, strict=True)


def labels(model: ImageClassifier, images: np.ndarray, *, top: int = 5) -> list[list[Label]]:
    """The most probable classes of images (n, rows, columns, channels) uint8."""
    probabilities = model.probabilities(model.normalization(images, model.dtype))
    orders = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [Label(int(i), model.classes[i], float(row[i])) for i in order]
        for row, order in zip(probabilities, orders, strict=True)
    ]


def pixels(model: ImageClassifier, image: ImageSource) -> np.ndarray | ImageError:
    """An image as large as the model's, (rows, columns, channels) uint8, or why there is none."""
    rows, columns, channels = model.shape
    try:
        resized = load_image(image, (rows, columns))
    except ImageError as error:
        return error
    if channels == 3:
        return resized
    gray = resized @ np.array([0.299, 0.587, 0.114])
    return gray.round().astype(np.uint8)[:, :, None]
