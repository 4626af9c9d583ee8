"""The drawn scenes of dlmie as labeled images: which shape, which color, or how many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from dlmie.data.labelled.sources.source import Block, Part, Reading, Source
from dlmie.data.scenes import VERSION, Scene, plan_scene, render_scene
from dlmie.data.scenes.plans import COLORS, SHAPES
from dlmie.errors import DataError

#: What can be asked of a scene: the classes, and which of them a scene belongs to.
QUESTIONS: Mapping[str, tuple[tuple[str, ...], Callable[[Scene], int]]] = {
    "shape": (SHAPES, lambda scene: SHAPES.index(scene.groups[0].shape)),
    "color": (COLORS, lambda scene: COLORS.index(scene.groups[0].color)),
    "count": (("one", "two", "three", "four"), lambda scene: scene.groups[0].count - 1),
}

_BLOCK = 256  # images


class DrawnScenes(Source):
    """Scenes of one or several equal things, labelled by one of their properties.

    Parameters
    ----------
    question : str
        ``"shape"``, ``"color"`` or ``"count"``.
    counts : mapping of int
        How many scenes each split has.
    seed : int
        Another seed gives other scenes.
    size : int
        Height and width in pixels, at least 32.

    Raises
    ------
    DataError
        A question, number or size that cannot be.
    """

    format = "scenes"

    def __init__(
        self, question: str, counts: Mapping[str, int], *, seed: int = 0, size: int = 32
    ) -> None:
        super().__init__()
        if question not in QUESTIONS:
            raise DataError(f"scenes are labelled by {', '.join(QUESTIONS)}, not by {question!r}")
        if seed < 0 or size < 32 or min(counts.values()) < 0:
            raise DataError(f"cannot draw scenes of seed {seed}, {size} pixels and {dict(counts)}")
        classes, label = QUESTIONS[question]
        self.question, self.seed, self.counts = question, seed, dict(counts)
        self.classes, self.shape = list(classes), (size, size, 3)
        self._scenes = {
            split: _scenes(seed, split, count) for split, count in counts.items() if count
        }
        for split, scenes in self._scenes.items():
            self.parts[split] = Part(np.array([label(scene) for scene in scenes], np.int64))

    def blocks(self, reading: Reading) -> Iterator[Block]:
        """Draw the scenes, some hundreds at a time."""
        for split, scenes in self._scenes.items():
            for start in range(0, len(scenes), _BLOCK):
                some = scenes[start : start + _BLOCK]
                images = np.stack([render_scene(scene, self.shape[0]) for scene in some])
                yield Block(split, np.arange(start, start + len(some)), images)

    @property
    def origin(self) -> dict[str, object]:
        return {
            "format": self.format,
            "version": VERSION,
            "question": self.question,
            "seed": self.seed,
            "size": self.shape[0],
            "counts": self.counts,
        }


def _scenes(seed: int, split: str, count: int) -> list[Scene]:
    """The first scenes of a split that hold one kind of thing, so that one label is true."""
    found: list[Scene] = []
    index = 0
    while len(found) < count:
        scene = plan_scene(seed, split, index)
        if len(scene.groups) == 1:
            found.append(scene)
        index += 1
    return found
