"""Batches of labeled images, in a seeded order that can resume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dlmie.data.batches import field_of
from dlmie.data.epochs import ResumableBatches, at_least
from dlmie.data.labelled.dataset import LabelledSplit
from dlmie.data.labelled.normalization import Normalization
from dlmie.data.prefetch import prefetch as work_ahead
from dlmie.errors import DataError
from dlmie.parallel import WHOLE, Shards

# Each use of chance has its own stream, so that one more draw in one does not shift another.
_ORDER, _VIEWS = 0, 1


@dataclass(frozen=True)
class LabelledBatch:
    """Named arrays of some images; its length is the number of images.

    Attributes
    ----------
    images : (batch, channels, rows, columns)
        Normalized.
    labels : (batch,) int64
    index : (batch,) int64
        Where in the split the images stand.
    shard_sizes : sequence of int
        Images of each shard that it holds; see :class:`~dlmie.parallel.Shards`.
    """

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    shard_sizes: Sequence[int] = ()

    def __getitem__(self, name: str) -> np.ndarray:
        return field_of(self, name)

    def __len__(self) -> int:
        return len(self.labels)


class LabelledBatches(ResumableBatches[LabelledBatch]):
    """The batches of one epoch after the other; see `ResumableBatches`.

    The order, and how each image is seen, are functions of ``(seed, epoch)`` only.

    Parameters
    ----------
    split
        ``data["train"]``.
    normalization
        From pixels to what the model sees.
    batch
        Images in a batch; the last of an epoch may have fewer.
    seed
        Of the order and the views.
    epoch, position
        Where to begin.
    flip
        Mirror a random half of the images, another half each epoch.
    shift
        Move each image by up to so many pixels up or down and left or right, at random; what comes
        in from outside is the mean (He et al. 2016, section 4.2: 4 pixels).
    limit
        Use only so many images, the first.
    prefetch
        How many batches a background thread may work ahead; 0 works without a thread.
    dtype
        Of the images.
    shards
        Give only the rows of these shards of each batch, and read only their images.

    Raises
    ------
    DataError
        No images, an option out of its range, or a normalization for other images.

    Examples
    --------
    ::

        data = LabelledImages("cifar10.h5")
        for batch in LabelledBatches(data["train"], Normalization.of(data), batch=200):
            batch["images"], batch["labels"]
    """

    def __init__(
        self,
        split: LabelledSplit,
        normalization: Normalization,
        *,
        batch: int = 128,
        seed: int = 0,
        epoch: int = 0,
        position: int = 0,
        flip: bool = False,
        shift: int = 0,
        limit: int | None = None,
        prefetch: int = 2,
        dtype: str = "float32",
        shards: Shards = WHOLE,
    ) -> None:
        super().__init__(batch=batch, seed=seed, prefetch=prefetch)
        at_least({"shift": shift}, 0)
        at_least({"limit": limit}, 1)
        if not len(split):
            raise DataError(f"the split {split.name} has no images")
        if split.shape != normalization.shape:
            raise DataError(f"images of {split.shape} do not fit a model of {normalization.shape}")
        if (flip or shift) and normalization.inputs[1:] == (1, 1):
            raise DataError(f"{normalization.kind} has no pixels to flip or shift")
        self._split, self._normalization = split, normalization
        self.flip, self.shift, self.dtype, self.shards = flip, shift, dtype, shards
        self._count = len(split) if limit is None else min(limit, len(split))
        self.seek(epoch, position)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self._count // self.batch)

    def order(self, epoch: int) -> np.ndarray:
        """Which image comes when in an epoch: (images,) int64."""
        return np.random.default_rng([self.seed, epoch, _ORDER]).permutation(self._count)

    def make(self, epoch: int, position: int) -> Iterator[LabelledBatch]:
        """The batches of an epoch from number ``position`` on."""
        order, views = self.order(epoch), self._views(epoch)
        for start in range(position * self.batch, len(order), self.batch):
            whole = order[start : start + self.batch]
            index, sizes = whole[self.shards.rows(len(whole))], self.shards.sizes(len(whole))
            read = load(self._split, self._normalization, index, self.dtype)
            yield replace(self._see(read, views), shard_sizes=sizes)

    def _views(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """How each image is seen: whether mirrored (images,), and moved by what (images, 2)."""
        rng = np.random.default_rng([self.seed, epoch, _VIEWS])
        mirrored = rng.random(self._count) < 0.5
        moved = rng.integers(0, 2 * self.shift + 1, (self._count, 2))
        return mirrored & self.flip, moved

    def _see(self, batch: LabelledBatch, views: tuple[np.ndarray, np.ndarray]) -> LabelledBatch:
        images, (mirrored, moved) = batch.images, views
        if self.flip:
            some = mirrored[batch.index]
            images[some] = images[some][..., ::-1]
        if self.shift:
            images = shifted(images, moved[batch.index], self.shift)
        return LabelledBatch(images, batch.labels, batch.index)


def shifted(images: np.ndarray, corners: np.ndarray, most: int) -> np.ndarray:
    """Windows of images with a margin of zeros of ``most`` pixels.

    Parameters
    ----------
    images : (n, channels, rows, columns)
    corners : (n, 2) int
        Of each window, in 0..2 most; ``most`` leaves an image where it is.
    most : int

    Returns
    -------
    (n, channels, rows, columns)
    """
    count, _, rows, columns = images.shape
    margins = ((0, 0), (0, 0), (most, most), (most, most))
    padded = np.pad(images, margins)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(2, 3))
    top, left = corners.T
    return np.ascontiguousarray(windows[np.arange(count), :, top, left])


def load(
    split: LabelledSplit, normalization: Normalization, index: np.ndarray, dtype: str = "float32"
) -> LabelledBatch:
    """A batch of the images that stand at some places of a split."""
    images = normalization.load(split, np.asarray(index), dtype)
    return LabelledBatch(images, split.labels[index], np.asarray(index))


def batches_in_order(
    split: LabelledSplit,
    normalization: Normalization,
    *,
    batch: int = 500,
    dtype: str = "float32",
    prefetch: int = 2,
    starts: Iterable[int] | None = None,
) -> Iterator[LabelledBatch]:
    """Every image of a split once, as it is and in order: to evaluate.

    ``starts`` are the first images of the batches, where not all of them are wanted.
    """
    starts = range(0, len(split), batch) if starts is None else starts
    made = (
        load(split, normalization, np.arange(start, min(start + batch, len(split))), dtype)
        for start in starts
    )
    return work_ahead(made, prefetch)
