"""Where attention should rest at each word of a caption: on the thing that the word is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlmie.data.captions.boxes import covered
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images.views import FIRST_CROP, view_boxes

Objects = Sequence[Mapping[str, Any]]


class AttentionTargets:
    """Maps of the things that words are about, for batches of captions.

    A word that names things is about them.  Their attributes ("red") are so where they stand
    beside the name: up to it and from it on, with nothing but attributes between.

    Parameters
    ----------
    objects
        For each image what it shows: mappings with ``words``, ``box``, [top, left, bottom, right]
        as fractions of the image, and maybe ``attributes``; None where this is not known.
    vocabulary
        Of the captions.
    grid
        Rows and columns of the attention.
    size
        Height and width of the images in pixels, on which crops depend.
    each
        Whether the things that one word is about ("three small stars") have a map each.

    Examples
    --------
    >>> from dlmie.data.captions.vocabulary import SPECIAL, START, END
    >>> star = {"words": ["star"], "attributes": ["red"], "box": [0.0, 0.0, 1.0, 0.5]}
    >>> vocabulary = Vocabulary([*SPECIAL, "a", "red", "star"])
    >>> targets = AttentionTargets([[star]], vocabulary, (1, 2), 64)
    >>> tokens = np.array([[START, 4, 5, 6, END]])
    >>> targets(tokens, np.array([0]), np.array([0]))[:, 0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        objects: Sequence[Objects | None],
        vocabulary: Vocabulary,
        grid: tuple[int, int],
        size: int,
        *,
        each: bool = False,
    ) -> None:
        self._objects, self._words = objects, vocabulary.words
        self.grid, self._size, self.each = grid, size, each
        self._made: dict[tuple[int, tuple[int, ...], int], np.ndarray | None] = {}

    def __call__(self, tokens: np.ndarray, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """For each word that a model answers the share of each cell that its thing covers.

        Parameters
        ----------
        tokens : (batch, time + 1) int
            Captions from start to end.
        images, views : (batch,) int
            Places of their images, and how these are seen.

        Returns
        -------
        (time, batch, cells) float32, or (time, batch, things, cells) with ``each``
            From 0 to 1; zeros where the word is about nothing that is known to be there, or about
            fewer things.
        """
        answers = tokens[:, 1:]
        maps: dict[tuple[int, int, int], np.ndarray] = {}  # by time, caption and thing
        for row, (numbers, image, view) in enumerate(zip(answers, images, views, strict=True)):
            things = self._objects[image]
            if not things:
                continue
            about = _meant([self._words[number] for number in numbers], things)
            for time, meant in enumerate(about):
                parts = [(number,) for number in meant] if self.each else [meant] if meant else []
                for place, part in enumerate(parts):
                    target = self._target(int(image), part, int(view))
                    if target is not None:
                        maps[time, row, place] = target
        most = max((place + 1 for _, _, place in maps), default=1)
        targets = np.zeros((answers.shape[1], len(answers), most, *self.grid), np.float32)
        for index, target in maps.items():
            targets[index] = target
        flat = targets.reshape(*targets.shape[:3], -1)
        return flat if self.each else flat[:, :, 0]

    def _target(self, image: int, meant: tuple[int, ...], view: int) -> np.ndarray | None:
        # Crops are seldom met again; the others come back each epoch.
        if view >= FIRST_CROP:
            return self._draw(image, meant, view)
        key = (image, meant, view)
        if key not in self._made:
            self._made[key] = self._draw(image, meant, view)
        return self._made[key]

    def _draw(self, image: int, meant: tuple[int, ...], view: int) -> np.ndarray | None:
        things = self._objects[image] or ()
        boxes = [things[number]["box"] for number in meant]
        seen = view_boxes(boxes, (self._size, self._size), view, image)
        return covered(seen, self.grid) if seen else None


def _meant(words: Sequence[str], things: Objects) -> list[tuple[int, ...]]:
    """The things, by number, that each word of a caption is about."""
    named = [_having(word, things, "words") for word in words]
    beside = [_having(word, things, "attributes") for word in words]
    after, before = list(named), list(named)
    for place in reversed(range(len(words) - 1)):
        after[place] = named[place] or _both(beside[place], after[place + 1])
    for place in range(1, len(words)):
        before[place] = named[place] or _both(beside[place], before[place - 1])
    return [a or b for a, b in zip(after, before, strict=True)]


def _both(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(number for number in one if number in other)


def _having(word: str, things: Objects, key: str) -> tuple[int, ...]:
    return tuple(number for number, thing in enumerate(things) if word in thing.get(key, ()))
