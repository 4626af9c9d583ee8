"""Sheets of generated images, and the animation of how a generator learned."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from dlmie.errors import DataError
from dlmie.files import containers
from dlmie.generation.album import as_rgb, grid
from dlmie.generation.model_files import load
from dlmie.models.generators.gan import GAN
from dlmie.training.folders import STATE
from dlmie.visualize.figures.figure import Figure


def sample(
    model: GAN | str | Path,
    *,
    count: int = 16,
    columns: int | None = None,
    between: bool = False,
    seed: int = 0,
    scale: int = 2,
) -> Figure:
    """A sheet of new images.

    Parameters
    ----------
    model
        A generator, or what :func:`~dlmie.generation.model_files.load` takes.
    count : int
        How many.
    columns : int, optional
        Beside each other; by default as many as below each other.
    between : bool
        Instead of images that have nothing to do with each other, each row goes from one noise to
        another in equal steps.
    seed : int
        Of the noise: equal ones give equal sheets.
    scale : int
        Each pixel becomes so many high and wide.
    """
    chosen = load(model) if isinstance(model, (str, Path)) else model
    columns = columns or math.ceil(math.sqrt(count))
    noise = np.random.default_rng(seed).uniform(-1, 1, (count, chosen.latent))
    if between:
        rows = -(-count // columns)
        ends = np.random.default_rng(seed).uniform(-1, 1, (2, rows, 1, chosen.latent))
        way = np.linspace(0, 1, columns)[:, None]
        noise = (ends[0] * (1 - way) + ends[1] * way).reshape(rows * columns, chosen.latent)
    return Figure(image=_enlarged(grid(chosen.render(noise), columns), scale))


def animation(run: str | Path, *, scale: int = 2, seconds: float = 0.2) -> Figure:
    """How images of one noise changed while a run was trained: its frames, to be saved as GIF.

    Parameters
    ----------
    run : path
        The run folder; its last checkpoint has the pictures.
    scale : int
        Each pixel becomes so many high and wide.
    seconds : float
        For which a picture is shown.

    Raises
    ------
    DataError
        Not the run of a generator.
    """
    path = Path(run) / STATE
    arrays = containers.load(path)[1] if path.is_file() else {}
    if "/album/frames" not in arrays:
        raise DataError(f"{run} is not the run of a generator: it has no pictures of its training")
    taken = int(arrays["/album/taken"])
    frames = [_enlarged(frame, scale) for frame in arrays["/album/frames"][:taken]]
    return Figure(image=frames[-1] if frames else None, frames=frames, seconds=seconds)


def _enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    return as_rgb(image).repeat(scale, axis=0).repeat(scale, axis=1)
