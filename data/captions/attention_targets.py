"""Where attention should rest at each word of a caption: on the thing that the word names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlmie.data.captions.boxes import covered
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images.views import FIRST_CROP, view_boxes

Objects = Sequence[Mapping[str, Any]]


class AttentionTargets:
    """Maps of the named things, for batches of captions.

    Parameters
    ----------
    objects
        For each image what it shows: mappings with ``words`` and ``box``, [top, left, bottom,
        right] as fractions of the image; None where this is not known.
    vocabulary
        Of the captions.
    grid
        Rows and columns of the attention.
    size
        Height and width of the images in pixels, on which crops depend.

    Examples
    --------
    >>> from dlmie.data.captions.vocabulary import SPECIAL, START, END
    >>> things = [{"words": ["star"], "box": [0.0, 0.0, 1.0, 0.5]}]
    >>> targets = AttentionTargets([things], Vocabulary([*SPECIAL, "a", "star"]), (1, 2), 64)
    >>> tokens = np.array([[START, 4, 5, END]])
    >>> targets(tokens, np.array([0]), np.array([0]))[:, 0].tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        objects: Sequence[Objects | None],
        vocabulary: Vocabulary,
        grid: tuple[int, int],
        size: int,
    ) -> None:
        self._objects, self._words = objects, vocabulary.words
        self.grid, self._size = grid, size
        self._made: dict[tuple[int, str, int], np.ndarray | None] = {}

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
        (time, batch, cells) float32
            From 0 to 1; a row of zeros where the word names nothing that is known to be there.
        """
        answers = tokens[:, 1:]
        targets = np.zeros((answers.shape[1], len(answers), *self.grid), np.float32)
        for row, (words, image, view) in enumerate(zip(answers, images, views, strict=True)):
            if not self._objects[image]:
                continue
            for time, number in enumerate(words):
                target = self._target(int(image), self._words[number], int(view))
                if target is not None:
                    targets[time, row] = target
        return targets.reshape(*targets.shape[:2], -1)

    def _target(self, image: int, word: str, view: int) -> np.ndarray | None:
        # Crops are seldom met again; the others come back each epoch.
        if view >= FIRST_CROP:
            return self._draw(image, word, view)
        key = (image, word, view)
        if key not in self._made:
            self._made[key] = self._draw(image, word, view)
        return self._made[key]

    def _draw(self, image: int, word: str, view: int) -> np.ndarray | None:
        things = self._objects[image] or ()
        boxes = [thing["box"] for thing in things if word in thing["words"]]
        seen = view_boxes(boxes, (self._size, self._size), view, image)
        return covered(seen, self.grid) if seen else None
