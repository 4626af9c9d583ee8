"""Attention learns to look: only one cell is informative, so the map and the figure peak there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlmie import captioning as hub
from dlmie import optim
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.metrics.pointing import pointing
from dlmie.captioning.step import compile as compile_step
from dlmie.compilation import get_threads, set_threads
from dlmie.data.batches import Batch
from dlmie.data.captions.vocabulary import END, START, Vocabulary
from dlmie.models import ShowAttendTell
from dlmie.visualize import attend

GRID = (3, 5)  # not square, so that a transposition shows
NAMES = ("circle", "square", "star", "moon")
VOCABULARY = Vocabulary(("<pad>", "<start>", "<end>", "<unk>", *NAMES))


def features(rng: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Annotations (images, 1 + names, rows, columns), the name to say, and the cell that tells.

    Every cell shows a name, so their mean tells nothing; channel 0 marks the one that counts.
    """
    shown = rng.integers(len(NAMES), size=(images, *GRID))
    names = np.moveaxis(np.eye(len(NAMES), dtype=np.float32)[shown], -1, 1)
    cells = rng.integers(GRID[0] * GRID[1], size=images)
    marks = np.zeros((images, 1, GRID[0] * GRID[1]), np.float32)
    marks[np.arange(images), 0, cells] = 1
    truth = shown.reshape(images, -1)[np.arange(images), cells]
    return 3 * np.concatenate([marks.reshape(images, 1, *GRID), names], axis=1), truth, cells


@pytest.fixture(scope="module")
def captioner() -> hub.ImageCaptioner:
    """A captioner that was trained on such images."""
    shape = (1 + len(NAMES), *GRID)
    model = ShowAttendTell(
        shape, VOCABULARY, embedding=8, hidden=32, attention=16, dropout=0.0, gate="none"
    )
    step = compile_step(model, optim.chain(optim.clip_norm(5.0), optim.adam(3e-2)))
    step.progress = False
    rng = np.random.default_rng(0)
    threads = get_threads()
    set_threads(1)  # so small a step only loses by sharing
    for _ in range(200):
        x, truth, _ = features(rng, 64)
        start, end = np.full(64, START), np.full(64, END)
        tokens = np.stack([start, truth + 4, end], axis=1).astype(np.int32)
        index = np.arange(64)
        step(Batch(x, tokens, index, index, np.zeros(64, bool)))
    set_threads(threads)
    return hub.ImageCaptioner([hub.Member(model, {}, Path("."), {})])


def test_attention_finds_the_planted_cell(captioner: hub.ImageCaptioner) -> None:
    x, truth, cells = features(np.random.default_rng(1), 100)
    said = [best[0] for best in captioner.decode([x], Decoding(beam=3))]
    right = np.array([c.text == NAMES[t] for c, t in zip(said, truth, strict=True)])
    assert right.mean() >= 0.95
    weights = np.array([c.alphas[0].ravel() for c in said])  # type: ignore[index]
    assert (weights.argmax(axis=1) == cells).mean() >= 0.95
    row, column = np.divmod(cells, GRID[1])
    objects = [
        [{"words": [c.text], "box": [r / 3, k / 5, (r + 1) / 3, (k + 1) / 5]}]
        for c, r, k in zip(said, row, column, strict=True)
    ]
    result = pointing(said, objects)
    assert result.chance == pytest.approx(1 / 15)
    assert result.score > 0.8


def test_the_figure_is_brightest_there(captioner: hub.ImageCaptioner) -> None:
    x, _, cells = features(np.random.default_rng(2), 12)
    photo = np.random.default_rng(3).integers(0, 256, (90, 60, 3), np.uint8)
    for (best, *_), cell in zip(captioner.decode([x], Decoding(beam=3)), cells, strict=True):
        panel = attend(best, photo, pixels=90).panels[1].image
        light = panel.astype(int).sum(axis=2)
        y, x_ = np.unravel_index(light.argmax(), light.shape)
        assert (y * 3 // panel.shape[0], x_ * 5 // panel.shape[1]) == divmod(cell, 5)
