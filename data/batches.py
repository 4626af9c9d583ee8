"""Batches of captions with their images: grouped by length, in a seeded order that can resume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dlmie.data.captions.vocabulary import PAD
from dlmie.data.epochs import ResumableBatches, at_least
from dlmie.data.images import Preprocessing, preprocess, view_image
from dlmie.data.images.views import FIRST_CROP, MIRRORED
from dlmie.errors import DataError
from dlmie.parallel import WHOLE, Shards

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Read = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Reads the inputs of images: (image indices, the view of each) -> float32 (images, …)."""

# Each use of chance has its own stream, so that one more draw in one does not shift another.
_ORDER, _VIEWS = 0, 1


class CaptionedImages(Protocol):
    """What batches need of a split: `dlmie.data.captions.dataset.Split` has it."""

    @property
    def tokens(self) -> Sequence[np.ndarray]:
        """One int array for each caption, with start and end."""

    @property
    def token_image(self) -> np.ndarray:
        """Image index of each caption: (captions,)."""

    def __len__(self) -> int:
        """Return the number of images."""


class LoadsImages(Protocol):
    """What `image_reader` needs of a split."""

    def load_images(self, indices: np.ndarray) -> np.ndarray:
        """Read images: (n, size, size, 3) uint8."""


class FirstImages:
    """The first images of a split, with all of their captions or the first of each.

    Parameters
    ----------
    split
        What batches are made of: ``captions["train"]``.
    images
        How many; all, if there are no more.
    one_caption
        Leave out all but the first caption of each image.
    """

    def __init__(self, split: CaptionedImages, images: int, *, one_caption: bool = False) -> None:
        owner = np.asarray(split.token_image)
        captions = np.unique(owner, return_index=True)[1] if one_caption else np.arange(len(owner))
        kept = captions[owner[captions] < images]
        self.tokens = [split.tokens[caption] for caption in kept]
        self.token_image = owner[kept]
        self._images = min(images, len(split))

    def __len__(self) -> int:
        return self._images


def field_of(batch: DataclassInstance, name: str) -> np.ndarray:
    """An array of a batch by its name; KeyError for another one."""
    if name not in {field.name for field in fields(batch)}:
        raise KeyError(name)
    array: np.ndarray = getattr(batch, name)
    return array


@dataclass(frozen=True)
class Batch:
    """Captions to learn from in one step.

    Attributes
    ----------
    inputs : numpy.ndarray
        What the captioner sees, one row per caption: ``(batch, …)`` float32.
    tokens : numpy.ndarray
        Word numbers from start to end, ``PAD`` after it: ``(batch, time + 1)`` int32. The words
        that a model reads are ``tokens[:, :-1]``, those it should answer ``tokens[:, 1:]``.
    image_index, caption_index : numpy.ndarray
        Where in the split the image and the caption stand: ``(batch,)``.
    views : numpy.ndarray
        How the image is seen, 0 as it is: ``(batch,)`` int; see
        :func:`~dlmie.data.images.view_image`.
    shard_sizes : sequence of int
        Rows of each shard that it holds; see :class:`~dlmie.parallel.Shards`.
    """

    inputs: np.ndarray
    tokens: np.ndarray
    image_index: np.ndarray
    caption_index: np.ndarray
    views: np.ndarray
    shard_sizes: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, name: str) -> np.ndarray:
        return field_of(self, name)


class Batches(ResumableBatches[Batch]):
    """The batches of one epoch after the other.

    Captions of equal length come together, so that hardly a step is spent on padding (Xu et al.
    2015, section 4.3); what remains of each length is merged with the nearest lengths and padded.
    Iterating gives the batches from ``position`` to the end of ``epoch``, then sets both to the
    beginning of the next epoch: iterate again for it.

    The order is a function of ``(seed, epoch)`` only. While the body of a loop handles a batch,
    ``position`` already counts it: save ``epoch`` and ``position``, give them to a new `Batches`,
    and it continues with the next batch.

    Parameters
    ----------
    split
        Captions and their images: ``captions["train"]``.
    read
        ``(image indices, views) -> float32 (images, …)``: ``partial(features.read, "train")`` or
        `image_reader`. Called with increasing indices, without repetition, from the thread that
        works ahead.
    batch
        Captions in a batch; the last of an epoch may have fewer.
    seed
        Of the order and the views.
    epoch, position
        Where to begin.
    by_length
        Whether to group captions by length.
    captions_per_image
        Use only so many captions of each image, others each epoch; by default all.
    flip
        Mirror a random half of the images that are not cropped, another half each epoch.
    crops
        See a random half of the images as one of so many random crops, another half each epoch.
    prefetch
        How many batches a background thread may work ahead; 0 works without a thread.
    block, window
        For inputs larger than memory: images are read in contiguous blocks of ``block`` images,
        ``window`` blocks in random order at a time, and captions are shuffled within this window.
        At most ``block * window + batch`` images are held, and what works ahead.
    shards
        Give only the rows of these shards of each batch, and read only their images.
    length_step
        Pad captions so that the words which a model reads are a multiple of so many.

    Raises
    ------
    DataError
        No captions, or an option out of its range.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> class Two(SimpleNamespace):
    ...     tokens = [np.array([1, 5, 2], np.int32), np.array([1, 6, 7, 2], np.int32)]
    ...     token_image = np.array([0, 1])
    ...     __len__ = lambda self: 2
    >>> batches = Batches(Two(), lambda images, views: images[:, None].astype("f4"), batch=2)
    >>> [sorted(batch.tokens.tolist()) for batch in batches]
    [[[1, 5, 2, 0], [1, 6, 7, 2]]]
    >>> batches.epoch, batches.position
    (1, 0)
    """

    def __init__(
        self,
        split: CaptionedImages,
        read: Read,
        *,
        batch: int = 64,
        seed: int = 0,
        epoch: int = 0,
        position: int = 0,
        by_length: bool = True,
        captions_per_image: int | None = None,
        flip: bool = False,
        crops: int = 0,
        prefetch: int = 2,
        block: int | None = None,
        window: int = 16,
        shards: Shards = WHOLE,
        length_step: int = 1,
    ) -> None:
        super().__init__(batch=batch, seed=seed, prefetch=prefetch)
        at_least({"crops": crops}, 0)
        at_least({"window": window, "captions_per_image": captions_per_image, "block": block}, 1)
        at_least({"length_step": length_step}, 1)
        if len(split.tokens) == 0:
            raise DataError("there are no captions to make batches of; choose a split with some")
        self.by_length, self.captions_per_image = by_length, captions_per_image
        self.flip, self.crops, self.block, self.window = flip, crops, block, window
        self.shards, self.length_step = shards, length_step
        self._tokens, self._read = split.tokens, read
        self._image = np.asarray(split.token_image)  # (captions,)
        self._lengths = np.fromiter((len(t) for t in split.tokens), np.int64, len(split.tokens))
        self._images = len(split)
        self.seek(epoch, position)

    def __len__(self) -> int:
        """Batches in an epoch; the same for every epoch."""
        return -(-self.captions // self.batch)

    @property
    def captions(self) -> int:
        """Captions in an epoch."""
        counts = np.bincount(self._image, minlength=self._images)
        return int(np.minimum(counts, self.captions_per_image or counts.max()).sum())

    # -- the order --------------------------------------------------------------------------------

    def order(self, epoch: int) -> list[list[np.ndarray]]:
        """Plan an epoch: windows of batches, each the caption indices of one batch.

        Without ``block`` there is one window.
        """
        rng = np.random.default_rng([self.seed, epoch, _ORDER])
        captions = self._choose(rng)
        if self.block is None:
            windows = [captions]
        else:
            blocks = rng.permutation(-(-self._images // self.block))
            rank = np.empty(len(blocks), np.int64)
            rank[blocks] = np.arange(len(blocks)) // self.window  # block -> window
            belongs = rank[self._image[captions] // self.block]
            by_window = captions[np.argsort(belongs, kind="stable")]
            edges = np.cumsum(np.bincount(belongs, minlength=rank.max() + 1))
            windows = np.split(by_window, edges[:-1])
        plan, carried = [], captions[:0]
        for number, window in enumerate(windows):
            batches = self._group(np.concatenate([carried, window]))
            # What does not fill a batch moves to the next window, so that every epoch has the
            # same number of batches, whatever windows it falls into.
            if number < len(windows) - 1 and batches and len(batches[-1]) < self.batch:
                carried = batches.pop()
            else:
                carried = captions[:0]
            plan.append([batches[i] for i in rng.permutation(len(batches))])
        return plan

    def _choose(self, rng: np.random.Generator) -> np.ndarray:
        """Shuffle the captions and keep those to use in this epoch."""
        captions = rng.permutation(len(self._tokens))
        if self.captions_per_image is None:
            return captions
        images = self._image[captions]
        together = np.argsort(images, kind="stable")
        first = np.searchsorted(images[together], images[together])
        rank = np.empty(len(captions), np.int64)  # 0 for the first caption met of an image, …
        rank[together] = np.arange(len(captions)) - first
        return captions[rank < self.captions_per_image]

    def _group(self, captions: np.ndarray) -> list[np.ndarray]:
        """Cut captions into batches; only the last may be short."""
        if not self.by_length:
            return _cut(captions, self.batch)
        lengths = self._lengths[captions]
        captions = captions[np.argsort(lengths, kind="stable")]
        full, rest = [], [captions[:0]]
        for same in np.split(captions, np.cumsum(np.bincount(lengths))[:-1]):
            whole = len(same) - len(same) % self.batch
            full += _cut(same[:whole], self.batch)
            rest.append(same[whole:])
        return full + _cut(np.concatenate(rest), self.batch)  # neighbors have similar lengths

    def views(self, epoch: int) -> np.ndarray:
        """Tell how each image is seen in an epoch: (images,) int."""
        rng = np.random.default_rng([self.seed, epoch, _VIEWS])
        views = np.zeros(self._images, np.int64)
        if self.flip:
            views[rng.random(self._images) < 0.5] = MIRRORED
        if self.crops:
            cropped = rng.random(self._images) < 0.5
            crop = rng.integers(FIRST_CROP, FIRST_CROP + self.crops, self._images)
            views[cropped] = crop[cropped]
        return views

    # -- the batches ------------------------------------------------------------------------------

    def make(self, epoch: int, position: int) -> Iterator[Batch]:
        """The batches of an epoch from number ``position`` on."""
        views = self.views(epoch)
        for load in self.loads(epoch, position):
            yield from self.load(load, views)

    def loads(self, epoch: int, position: int = 0) -> Iterator[list[np.ndarray]]:
        """Batches whose images are read at once, as caption indices; from a position on.

        Those of a whole window; without windows, a batch at a time.
        """
        for batches in self.order(epoch):
            todo, position = batches[position:], max(0, position - len(batches))
            if self.block is None:
                yield from ([captions] for captions in todo)
            elif todo:
                yield todo

    def load(self, load: Sequence[np.ndarray], views: np.ndarray) -> Iterator[Batch]:
        """Read the images of some batches as they are seen: (images,) int, and give the batches."""
        own = [captions[self.shards.rows(len(captions))] for captions in load]
        needed = np.unique(self._image[np.concatenate(own)])
        inputs = self._read(needed, views[needed])
        for whole, captions in zip(load, own, strict=True):
            images = self._image[captions]
            tokens = [self._tokens[caption] for caption in captions]
            read = max(map(len, tokens)) - 1
            time = -(-read // self.length_step) * self.length_step
            padded = np.full((len(tokens), time + 1), PAD, np.int32)
            for row, caption in zip(padded, tokens, strict=True):
                row[: len(caption)] = caption
            rows = inputs[np.searchsorted(needed, images)]
            sizes = self.shards.sizes(len(whole))
            yield Batch(rows, padded, images, captions, views[images], sizes)


def _cut(captions: np.ndarray, size: int) -> list[np.ndarray]:
    return [captions[start : start + size] for start in range(0, len(captions), size)]


def image_reader(split: LoadsImages, preprocessing: Preprocessing) -> Read:
    """Make the ``read`` of `Batches` that gives preprocessed images, for training an encoder too.

    Parameters
    ----------
    split
        Where the images are: ``captions["train"]``.
    preprocessing
        What the encoder expects.

    Returns
    -------
    callable
        ``(image indices, views) -> float32 (images, 3, size, size)``.
    """

    def read(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        images = split.load_images(indices)  # (images, row, column, channel)
        seen = [view_image(*one) for one in zip(images, views, indices, strict=True)]
        return preprocess(np.stack(seen), preprocessing)

    return read
