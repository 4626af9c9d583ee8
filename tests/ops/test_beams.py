"""The kernel that continues the hypotheses of a beam search, beside its definition in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from sequence_cases import threads

from dlmie.ops.decoding.beams import by_numpy, continue_beams
from dlmie.ops.runtime import library

END = 2


def case(
    images: int, beams: int, words: int, *, dtype: str = "float32", seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities, some equal and some -inf, scores, and where the greedy hypotheses are."""
    random = np.random.default_rng(seed)
    drawn = random.normal(size=(images, beams, words), scale=4)
    logs = np.where(random.random(drawn.shape) < 0.5, np.round(drawn), drawn).astype(dtype)
    logs[random.random(drawn.shape) < 0.2] = -np.inf
    logs[..., END] += random.choice([0, 9], size=(images, beams))
    scores = np.round(random.normal(size=(images, beams), scale=2))
    scores[random.random(scores.shape) < 0.1] = -np.inf
    return logs - 5, scores, random.integers(-1, beams, images)


def assert_alike(logs: np.ndarray, scores: np.ndarray, greedy: np.ndarray, beam: int) -> None:
    library.load()
    before, own = greedy.copy(), (logs.copy(), logs.copy())
    found = continue_beams(own[0], scores, greedy, end=END, beam=beam)
    wanted = by_numpy(own[1], scores, greedy, end=END, beam=beam)
    possible = wanted.totals > -np.inf  # of the others the order does not matter
    np.testing.assert_array_equal(found.totals, wanted.totals)
    np.testing.assert_array_equal(found.chosen[possible], wanted.chosen[possible])
    for name in ("ends", "ending", "greedy"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name), name)
    np.testing.assert_array_equal(*own)
    np.testing.assert_array_equal(greedy, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("beam", [1, 2, 5, 12])
def test_the_kernel_finds_what_numpy_finds(dtype: str, beam: int) -> None:
    for seed, words in enumerate((3, 4, 17, 64, 65, 300, 1000, 3001)):
        for images, beams in ((1, 1), (1, beam), (4, beam)):
            if beams * words < beam:
                continue
            assert_alike(*case(images, beams, words, dtype=dtype, seed=seed), beam)


def test_fewer_words_than_places() -> None:
    library.load()
    logs = np.log([[[0.1, 0.2, 0.3, 0.4]]])
    found = continue_beams(logs, np.zeros((1, 1)), np.array([0]), end=END, beam=9)
    assert found.chosen[0, :3].tolist() == [3, 1, 0]
    assert found.totals[0, 3:].tolist() == [-np.inf]
    assert found.ending.tolist() == [[True]]
    assert found.greedy.tolist() == [0]


def test_nothing_but_equals_and_nothing_at_all() -> None:
    for value in (0.0, -3.5, -np.inf):
        logs = np.full((2, 3, 700), value, "float32")
        for greedy in ([0, 2], [-1, 1]):
            assert_alike(logs, np.zeros((2, 3)), np.array(greedy), 4)


def test_certain_words_are_told_apart() -> None:
    """Probabilities of nearly 1 after a long caption: rounding hides none."""
    logs = np.full((1, 2, 600), -1e-9, "float32")
    logs[0, :, 300:] = [[-1e-12], [-2e-12]]
    assert_alike(logs, np.array([[-120.0, -120.0]]), np.array([1]), 5)


def test_it_does_not_depend_on_threads() -> None:
    logs, scores, greedy = case(7, 5, 9000)
    results = []
    for count in (1, 2, 5):
        with threads(count):
            found = continue_beams(logs.copy(), scores, greedy, end=END, beam=5)
        results.append([array.tobytes() for array in found])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("place", [(0, 0, 5), (1, 2, 999), (1, 1, END)])
def test_nan_is_refused(place: tuple[int, int, int]) -> None:
    library.load()
    logs, scores, greedy = case(2, 3, 1000)
    scores[:] = 0
    logs[place] = np.nan
    for way in (continue_beams, by_numpy):
        with pytest.raises(FloatingPointError):
            way(logs.copy(), scores, greedy, end=END, beam=3)
