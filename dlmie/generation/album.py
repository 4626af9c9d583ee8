"""Pictures of one and the same noise as a generator learns: the frames of an animation."""

from __future__ import annotations

import numpy as np

from dlmie.models.generators.gan import GAN
from dlmie.training.checkpoint import KeptArray, Stateful

SIDE = 4  # images on each side of a grid
_FRAMES = 48  # kept at most


class Album:
    """Grids of images that a generator makes of fixed noise, every so many steps.

    When it is full, every second picture is taken out, and from then on half as many are taken: the
    whole training stays in it, evenly.

    Parameters
    ----------
    model : GAN
    every : int
        Steps between pictures, at first.
    seed : int
        Of the noise.
    """

    def __init__(self, model: GAN, *, every: int, seed: int) -> None:
        rows, columns, channels = model.shape
        self.model = model
        self._noise = np.random.default_rng([seed, 1]).uniform(-1, 1, (SIDE**2, model.latent))
        self._frames = np.zeros((_FRAMES, SIDE * rows, SIDE * columns, channels), np.uint8)
        self._steps = np.zeros((), np.int64)  # that were counted
        self._taken = np.zeros((), np.int64)
        self._every = np.array(every, np.int64)

    def count(self) -> None:
        """Count a step, and take a picture where one is due; the first is of the first step."""
        if int(self._steps) % int(self._every) == 0:
            self.take()
        self._steps += 1

    def take(self) -> None:
        """Take a picture."""
        if int(self._taken) == _FRAMES:
            self._frames[: _FRAMES // 2] = self._frames[::2]
            self._taken[...] = _FRAMES // 2
            self._every *= 2
            if int(self._steps) % int(self._every):
                return
        self._frames[int(self._taken)] = grid(self.model.render(self._noise), SIDE)
        self._taken += 1

    @property
    def state(self) -> dict[str, Stateful]:
        """What a checkpoint holds, by name."""
        return {
            "/album/frames": KeptArray(self._frames),
            "/album/steps": KeptArray(self._steps),
            "/album/taken": KeptArray(self._taken),
            "/album/every": KeptArray(self._every),
        }


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (n, rows, columns, channels) beside and below each other; missing ones are black.

    Examples
    --------
    >>> grid(np.ones((3, 2, 2, 1), np.uint8), 2)[..., 0].tolist()
    [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    """
    count, height, width, channels = images.shape
    lines = -(-count // columns)
    full = np.zeros((lines * columns, height, width, channels), images.dtype)
    full[:count] = images
    arranged = full.reshape(lines, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return arranged.reshape(lines * height, columns * width, channels)


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image (rows, columns, 1 or 3) as (rows, columns, 3)."""
    return image if image.shape[-1] == 3 else image.repeat(3, axis=-1)
