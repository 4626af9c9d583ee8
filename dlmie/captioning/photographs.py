"""Folders of photographs, however large: captioned or classified batch by batch as they are read.

A photograph that cannot be read takes the place of its answer as an error; the others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from dlmie.captioning.captioner import Image, ImageCaptioner
from dlmie.captioning.decoding import Caption, Decoding
from dlmie.data.images import ImageError, load_image
from dlmie.data.prefetch import prefetch

if TYPE_CHECKING:
    from dlmie.classification.labelling import Label
    from dlmie.graph.network import Network


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
    for seen, items in _read(images, size, batch, done):
        usable = {i: x for i, (_, x) in enumerate(items) if isinstance(x, np.ndarray)}
        answers: dict[int, list[Caption] | ImageError] = {
            i: x for i, (_, x) in enumerate(items) if isinstance(x, ImageError)
        }
        if usable:
            features = captioner.features([*usable.values()])
            keys = [seen + i for i in usable]  # what is drawn does not depend on the batch
            answers |= zip(usable, captioner.decode(features, decoding, keys), strict=True)
        for i, (image, _) in enumerate(items):
            if image not in done:
                yield image, answers[i]


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
    for _, items in _read(images, encoder.preprocessing.sizes[0], batch, done):
        pixels = [x for _, x in items if isinstance(x, np.ndarray)]
        rows = iter(encoder.photographs(pixels) if pixels else ())
        for image, x in items:
            found = _labels(next(rows), network, top) if isinstance(x, np.ndarray) else x
            if image not in done:
                yield image, found


def _labels(probabilities: np.ndarray, network: Network, top: int) -> list[Label]:
    from dlmie.classification.labelling import Label

    order = np.argsort(-probabilities, kind="stable")[:top]
    names = network.classes or [f"class {i}" for i in range(len(probabilities))]
    return [Label(int(i), names[i], float(probabilities[i])) for i in order]


def _read(
    images: Iterable[Image], size: int | None, batch: int, done: Collection[Image] = ()
) -> Iterator[tuple[int, list[tuple[Image, np.ndarray | ImageError]]]]:
    """Batches of (image as given, its pixels or the error), each with the number of its first.

    They are read ahead in a thread; a batch that is ``done`` wholly is not read. The first batches
    are smaller, so that the first answers, and an estimate of the time, come soon.

    They are resized at once where all encoders see the same ``size`` first: a photograph of a
    phone takes 36 MB, what an encoder sees of it 0.15.
    """

    def load() -> Iterator[tuple[int, list[tuple[Image, np.ndarray | ImageError]]]]:
        rest, start, wanted = iter(images), 0, 1
        while chosen := list(islice(rest, min(wanted, batch))):
            if not all(image in done for image in chosen):
                yield start, [(image, pixels(image)) for image in chosen]
            start, wanted = start + len(chosen), 2 * wanted

    def pixels(image: Image) -> np.ndarray | ImageError:
        try:
            return load_image(image, size)
        except ImageError as error:
            return error

    with closing(prefetch(load(), 1)) as batches:
        yield from batches
