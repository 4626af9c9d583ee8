"""Folders of photographs, however large: captioned or classified batch by batch as they are read.

A photograph that cannot be read takes the place of its answer as an error; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from dlmie.captioning.captioner import Image, ImageCaptioner
from dlmie.captioning.decoding import Caption, Decoding
from dlmie.data.images import ImageError, load_image
from dlmie.data.prefetch import prefetch
from dlmie.parallel import in_turns, world

if TYPE_CHECKING:
    from dlmie.classification.labelling import Label
    from dlmie.graph.network import Network

Answer = TypeVar("Answer")


def caption_images(
    captioner: ImageCaptioner,
    images: Iterable[Image],
    decoding: Decoding | None = None,
    *,
    batch: int = 16,
    done: Collection[Image] = (),
) -> Iterator[tuple[Image, list[Caption] | ImageError]]:
    """Caption any number of photographs; memory does not grow with their number.

    Parameters
    ----------
    captioner : ImageCaptioner
        From :func:`dlmie.load`.
    images : iterable
        What :func:`~dlmie.data.images.load_image` reads, such as paths.
    decoding : Decoding, optional
        How captions are found; by default as the captioner's file says.
    batch : int
        Photographs worked on at a time; the next ones are read meanwhile.
    done : collection
        Photographs that need no caption. The others get the very captions that they would get
        among all: no batch changes, but those that are done wholly are not worked on.

    Yields
    ------
    tuple
        The image as it was given, with its captions, best first, or the error that says why it
        has none; in order.

    Examples
    --------
    >>> for path, captions in caption_images(dlmie.load("runs/sat"), find_images(["photos/"])):
    ...     print(path, captions)                                       # doctest: +SKIP
    """
    decoding = captioner.decoding() if decoding is None else decoding
    sizes = {member.encoder.preprocessing.sizes[0] for member in captioner.members}
    size = sizes.pop() if len(sizes) == 1 else None

    def work(batches: Iterator[_Batch[Image]]) -> Iterator[list[list[Caption] | ImageError]]:
        for batch in _read(batches, size):
            usable = {i: x for i, x in enumerate(batch.pixels) if isinstance(x, np.ndarray)}
            answers: dict[int, list[Caption] | ImageError] = {
                i: x for i, x in enumerate(batch.pixels) if isinstance(x, ImageError)
            }
            if usable:
                features = captioner.features([*usable.values()])
                keys = [batch.start + i for i in usable]  # what is drawn does not depend on batches
                answers |= zip(usable, captioner.decode(features, decoding, keys), strict=True)
            yield [answers[i] for i in range(len(batch.pixels))]

    yield from _answered(images, batch, done, work)


def classify_images(
    network: Network,
    images: Iterable[Image],
    *,
    top: int = 5,
    batch: int = 16,
    done: Collection[Image] = (),
) -> Iterator[tuple[Image, list[Label] | ImageError]]:
    """Name what photographs show; memory does not grow with their number.

    Parameters
    ----------
    network : Network
        With a layer ``probabilities``.
    images, batch, done
        As for :func:`caption_images`.
    top : int
        Classes named for each image, the most probable first.

    Yields
    ------
    tuple
        The image as it was given, with its classes or the error; in order.
    """
    from dlmie.captioning.features import Encoder

    encoder = Encoder(network, "probabilities")

    def work(batches: Iterator[_Batch[Image]]) -> Iterator[list[list[Label] | ImageError]]:
        for batch in _read(batches, encoder.preprocessing.sizes[0]):
            pixels = [x for x in batch.pixels if isinstance(x, np.ndarray)]
            rows = iter(encoder.photographs(pixels) if pixels else ())
            yield [
                _labels(next(rows), network, top) if isinstance(x, np.ndarray) else x
                for x in batch.pixels
            ]

    yield from _answered(images, batch, done, work)


def _labels(probabilities: np.ndarray, network: Network, top: int) -> list[Label]:
    from dlmie.classification.labelling import Label

    order = np.argsort(-probabilities, kind="stable")[:top]
    names = network.classes or [f"class {i}" for i in range(len(probabilities))]
    return [Label(int(i), names[i], float(probabilities[i])) for i in order]


@dataclass(frozen=True)
class _Batch(Generic[Image]):
    """Some images as they were given, the number of the first, and when read what they hold."""

    start: int
    images: list[Image]
    pixels: list[np.ndarray | ImageError] = field(default_factory=list)


def _answered(
    images: Iterable[Image],
    batch: int,
    done: Collection[Image],
    work: Callable[[Iterator[_Batch[Image]]], Iterator[list[Answer | ImageError]]],
) -> Iterator[tuple[Image, Answer | ImageError]]:
    """Every image that is not ``done`` with what ``work`` makes of it, in order.

    A batch that is done wholly is not worked on.  Several ranks work on a batch each, and all of
    them get all answers.
    """
    todo = (
        each for each in _batches(images, batch) if not all(image in done for image in each.images)
    )
    for each, answers in in_turns(todo, work, world()):
        for image, answer in zip(each.images, answers, strict=True):
            if image not in done:
                yield image, answer


def _batches(images: Iterable[Image], batch: int) -> Iterator[_Batch[Image]]:
    """Images a batch at a time.

    The first batches are smaller, so that the first answers, and an estimate of the time, come
    soon.
    """
    rest, start, wanted = iter(images), 0, 1
    while chosen := list(islice(rest, min(wanted, batch))):
        yield _Batch(start, chosen)
        start, wanted = start + len(chosen), 2 * wanted


def _read(batches: Iterator[_Batch[Image]], size: int | None) -> Iterator[_Batch[Image]]:
    """Batches with their pixels, read ahead in a thread.

    They are resized at once where all encoders see the same ``size`` first: a photograph of a
    phone takes 36 MB, what an encoder sees of it 0.15.
    """

    def pixels(image: Image) -> np.ndarray | ImageError:
        try:
            return load_image(image, size)
        except ImageError as error:
            return error

    loaded = (replace(batch, pixels=list(map(pixels, batch.images))) for batch in batches)
    with closing(prefetch(loaded, 1)) as ready:
        yield from ready
