"""Attention figures: a cell's weight lies over that cell, on one scale, never wrapped."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from attention_case import golden_figure, planted, said

from dlmie.data.images import load_image, save_image
from dlmie.errors import DlmieError
from dlmie.visualize import attend
from dlmie.visualize.attention.flatness import FlatAttention, entropy
from dlmie.visualize.attention.upsampling import upsample
from dlmie.visualize.figures.figure import Figure

GOLDEN = Path(__file__).parents[1] / "golden" / "attention_figure.png"
METHODS = ("smooth", "block")
CASES = [  # grid, size: the usual ones, not square, not a multiple, fewer pixels than cells
    ((14, 14), (224, 224)),
    ((7, 7), (224, 224)),
    ((7, 7), (320, 240)),
    ((3, 5), (100, 333)),
    ((14, 14), (50, 61)),
    ((14, 9), (10, 7)),
    ((1, 1), (20, 30)),
]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A photograph of strong contrast, from black to white."""
    bits = np.random.default_rng(seed).integers(0, 2, (height, width, 1), np.uint8) * 255
    return np.repeat(bits, 3, axis=2)


def brightest(image: np.ndarray, grid: tuple[int, int]) -> tuple[int, int]:
    """The cell in which the brightest 20 pixels lie; they must agree."""
    light = image.astype(int).sum(axis=2)
    places = np.argsort(light.ravel())[-20:]
    rows, columns = np.unravel_index(places, light.shape)
    cells = {
        (int(r * grid[0] / light.shape[0]), int(c * grid[1] / light.shape[1]))
        for r, c in zip(rows, columns, strict=True)
    }
    assert len(cells) == 1, cells
    return cells.pop()


# -- from cells to pixels -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("grid", "size"), CASES)
def test_a_cell_keeps_its_place_and_its_mass(
    grid: tuple[int, int], size: tuple[int, int], method: str
) -> None:
    rows, columns = grid
    # All cells of the first row, the last column and a diagonal.
    row = np.r_[np.zeros(columns, int), np.arange(rows), np.arange(rows)]
    column = np.r_[np.arange(columns), np.full(rows, columns - 1), np.arange(rows) % columns]
    deltas = np.zeros((len(row), rows, columns))
    deltas[np.arange(len(row)), row, column] = 1
    maps = upsample(deltas, size, method)
    assert maps.shape == (len(row), *size)
    assert maps.min() >= 0
    cell = size[0] / rows * (size[1] / columns)  # pixels
    np.testing.assert_allclose(maps.sum(axis=(1, 2)), cell, rtol=1e-6)
    y, x = (np.arange(n) + 0.5 for n in size)
    mass = maps / cell
    down = mass.sum(axis=2) @ y
    across = mass.sum(axis=1) @ x
    # Borders and corners included; the paper's pyramid is 10 pixels off there.
    assert np.abs(down - (row + 0.5) * size[0] / rows).max() < 1
    assert np.abs(across - (column + 0.5) * size[1] / columns).max() < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("grid", "size"), CASES)
def test_an_even_map_stays_even(grid: tuple[int, int], size: tuple[int, int], method: str) -> None:
    even = np.full(grid, 1 / (grid[0] * grid[1]))
    np.testing.assert_allclose(upsample(even, size, method), even[0, 0], rtol=1e-6)


def test_smooth_keeps_most_of_a_cell_over_the_cell() -> None:
    for grid, size in CASES[:4]:
        delta = np.zeros(grid)
        delta[1, 2] = 1
        inside = upsample(delta, size, "block") > 0.5
        weight = upsample(delta, size, "smooth")
        assert weight[inside].sum() / weight.sum() > 0.5
        assert weight.max() <= 1
        assert np.abs(np.diff(weight, axis=1)).max() < 0.2  # and has no edges


def test_blocks_are_blocks() -> None:
    alphas = np.random.default_rng(0).random((2, 3, 4))
    blocks = np.kron(alphas, np.ones((5, 6)))
    np.testing.assert_allclose(upsample(alphas, (15, 24), "block"), blocks)


def test_rows_stay_rows() -> None:
    delta = np.zeros((3, 5))
    delta[0, 4] = 1
    for method in METHODS:
        map_ = upsample(delta, (60, 40), method)
        y, x = np.unravel_index(map_.argmax(), map_.shape)
        assert y < 20
        assert x >= 32


def test_entropy() -> None:
    even = np.full((2, 3, 4), 1 / 12)
    np.testing.assert_allclose(entropy(even), np.log(12))
    assert entropy(np.eye(3)[None, :1])[0] == 0
    np.testing.assert_allclose(entropy(7 * even), np.log(12))


# -- the figure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(90, 60), (60, 90), (64, 64)])
@pytest.mark.parametrize("cell", [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)])
def test_planted_cell_is_the_brightest(
    cell: tuple[int, int], shape: tuple[int, int], method: str
) -> None:
    caption = said("dog", planted(*cell, (3, 5))[None])
    for photo in (noise(*shape), np.zeros((*shape, 3), np.uint8), np.full((*shape, 3), 255, "u1")):
        panel = attend(caption, photo, upsampling=method, pixels=150).panels[1].image
        assert panel.dtype == np.uint8
        assert max(panel.shape) == 150
        assert panel.shape[0] / panel.shape[1] == pytest.approx(shape[0] / shape[1], abs=0.02)
        assert brightest(panel, (3, 5)) == cell


def test_planted_cell_in_the_saved_file(tmp_path: Path) -> None:
    """Bright pixels of the drawn figure lie in that cell of that panel, and nowhere else."""
    caption = said("a dog", np.stack([planted(0, 4, (3, 5)), planted(2, 1, (3, 5))]))
    black = np.zeros((60, 100, 3), np.uint8)
    path = attend(caption, black, layout="strip", pixels=200).save(tmp_path / "a.png", dpi=100)
    drawn = load_image(path).astype(int)
    inside = drawn[:, :, 0] + drawn[:, :, 2] < 240  # black, or the colors over it
    columns = np.flatnonzero(inside.sum(axis=0) > 60)
    breaks = np.flatnonzero(np.diff(columns, prepend=-9) > 1)
    starts = columns[breaks[:3]]  # photograph, "a", "dog"; what follows is the scale
    width = breaks[1]  # of the photograph: it is black throughout
    rows = np.flatnonzero(inside[:, starts[0] + 5])
    for start, cell in zip(starts[1:], [(0, 4), (2, 1)], strict=True):
        panel = drawn[rows[0] + 1 : rows[-1], start + 1 : start + width - 1]
        assert brightest(panel, (3, 5)) == cell


def test_panels_are_the_photograph_and_the_words_in_order() -> None:
    alphas = np.stack([planted(i % 2, i % 3, (2, 3)) for i in range(4)])
    photo = noise(40, 60)
    figure = attend(said("a $5 dog runs", alphas, np.array([0.1, 0.2, 0.3, 0.456])), photo)
    titles = [panel.title for panel in figure.panels]
    assert titles == ["", "a  β 0.10", "$5  β 0.20", "dog  β 0.30", "runs  β 0.46"]
    assert figure.panels[0].image is figure.photo
    assert figure.columns == 2
    assert [p.title for p in attend(said("a dog", alphas[:2]), photo).panels] == ["", "a", "dog"]
    assert attend(said("a b c d", alphas), photo, layout="strip").columns == 5
    assert attend(said("a b c d", alphas), photo, columns=3).columns == 3


@pytest.mark.parametrize("shape", [(30, 30), (20, 30), (30, 20), (120, 20), (20, 120)])
@pytest.mark.parametrize("words", [1, 7, 20])
def test_figures_are_about_square(words: int, shape: tuple[int, int]) -> None:
    """Slim photographs stand in a row, wide ones in a column: no panel swims in white."""
    alphas = np.repeat(planted(0, 1, (2, 3))[None], words, axis=0)
    alphas[0] = planted(1, 1, (2, 3))
    figure = attend(said(" ".join(["dog"] * words), alphas), noise(*shape))
    rows = -(-(words + 1) // figure.columns)
    height = rows * (figure.side * shape[0] / shape[1] + 0.35)
    assert 0.3 < height / (figure.columns * figure.side) < 3.5


def test_one_scale_for_all_words() -> None:
    weak, strong = planted(0, 0, (2, 2), 0.6), planted(1, 1, (2, 2), 0.2)
    black = np.zeros((40, 40, 3), np.uint8)
    both = attend(said("a b", np.stack([weak, strong])), black)
    assert both.scale is not None
    assert both.scale.low == 0
    assert both.scale.high == pytest.approx(0.85)
    alone = attend(said("a", weak[None]), black)
    same = attend(said("a", weak[None]), black, limit=0.85)
    np.testing.assert_array_equal(both.panels[1].image, same.panels[1].image)
    assert both.panels[1].image.max() < alone.panels[1].image.max()


def test_what_lies_above_the_scale_does_not_wrap() -> None:
    """A uint8 that overflows turns the brightest places dark."""
    caption = said("dog", planted(1, 1, (3, 3))[None])
    white = np.full((60, 60, 3), 255, np.uint8)
    for strength in (0.0, 0.6, 1.0):
        for limit in (1e-9, 0.1, 0.5):
            figure = attend(caption, white, limit=limit, strength=strength, upsampling="block")
            panel = figure.panels[1].image.astype(int).sum(axis=2)
            side = panel.shape[0]
            assert panel[side // 2, side // 2] == panel.max()
    zero = attend(caption, white, limit=0.0).panels[1].image  # and no division by zero
    assert zero.dtype == np.uint8


def test_the_drawn_scale_shows_the_colors_of_the_panels() -> None:
    gray = np.full((40, 40, 3), 128, np.uint8)
    alphas = np.array([[[0.5, 0.25], [0.25, 0.0]]])
    figure = attend(said("dog", alphas), gray, upsampling="block")
    assert figure.scale is not None
    panel, colors = figure.panels[1].image, figure.scale.colors
    np.testing.assert_array_equal(panel[10, 10], colors[255])
    assert np.abs(panel[10, -10].astype(int) - colors[[127, 128]].astype(int)).max() <= 2
    np.testing.assert_array_equal(panel[-10, -10], colors[0])


def test_manifest_holds_entropies(tmp_path: Path) -> None:
    save_image(tmp_path / "dog.png", noise(20, 30))
    alphas = np.stack([planted(0, 1, (2, 3)), planted(1, 2, (2, 3), 0.6)])
    figure = attend(
        said("a dog", alphas, np.array([0.5, 0.25])),
        tmp_path / "dog.png",
        made_by={"captioner": ["runs/sat/best.h5"], "say": None},
    )
    figure.save(tmp_path / "out.png")
    manifest = json.loads((tmp_path / "out.json").read_text())
    assert manifest["picture"] == "attend"
    assert manifest["network"] == {"captioner": ["runs/sat/best.h5"], "say": None}
    assert manifest["images"]["image"]["path"].endswith("dog.png")
    assert manifest["arguments"]["upsampling"] == "smooth"
    results = manifest["results"]
    assert results["caption"] == "a dog"
    assert results["grid"] == [2, 3]
    assert results["entropy_if_even"] == pytest.approx(np.log(6), abs=1e-4)
    first, second = results["words"]
    assert first["entropy"] == pytest.approx(float(entropy(alphas[0])), abs=1e-4)
    assert first["entropy"] < second["entropy"] < results["entropy_if_even"]
    assert (second["word"], second["cell"], second["gate"]) == ("dog", [1, 2], 0.25)


def test_every_kind_of_file(tmp_path: Path) -> None:
    figure = golden_figure()
    for name, start in (
        ("a.png", b"\x89PNG"),
        ("a.pdf", b"%PDF"),
        ("a.svg", b"<?xml"),
        ("a.gif", b"GIF89a"),
    ):
        assert figure.save(tmp_path / name).read_bytes().startswith(start)


def test_animation_goes_word_by_word(tmp_path: Path) -> None:
    alphas = np.stack([planted(0, 0, (2, 3)), planted(1, 2, (2, 3)), planted(0, 1, (2, 3))])
    black = np.zeros((40, 60, 3), np.uint8)
    words = "extraordinarily complicated photograph"
    figure = attend(said(words, alphas), black, pixels=180)
    path = figure.save(tmp_path / "a.gif")
    with PIL.Image.open(path) as animation:
        assert animation.n_frames == 4  # type: ignore[attr-defined]
        assert animation.info["duration"] == 900
    assert len({frame.shape for frame in figure.frames}) == 1
    heading = figure.frames[0].shape[0] - 120
    pictures = [frame[heading - 19 :][:120] for frame in figure.frames]
    assert pictures[0].max() == 0  # the photograph first
    assert brightest(pictures[1], (2, 3)) == (0, 0)
    assert brightest(pictures[2], (2, 3)) == (1, 2)
    marks = [frame[: heading - 19] for frame in figure.frames]
    assert not np.array_equal(marks[1], marks[2])  # another word is marked
    assert [bool((m == [163, 68, 0]).all(axis=2).any()) for m in marks] == [False, True, True, True]


def test_golden_figure() -> None:
    """The drawn figure as a whole: layout, letters, colors, scale."""
    drawn = golden_figure().pixels(dpi=50).astype(int)
    wanted = load_image(GOLDEN).astype(int)
    assert np.abs(np.subtract(drawn.shape, wanted.shape)).max() <= 2
    height, width = (min(pair) for pair in zip(drawn.shape[:2], wanted.shape[:2], strict=True))
    difference = np.abs(drawn[:height, :width] - wanted[:height, :width])
    # Letters may be set a little differently by another version of matplotlib.
    assert difference.mean() < 3
    assert (difference.max(axis=2) > 60).mean() < 0.03


def test_a_caption_without_words_is_its_photograph() -> None:
    figure = attend(said("", np.ones((0, 2, 2), np.float32)), noise(30, 40), pixels=40)
    assert len(figure.panels) == len(figure.frames) == 1
    assert figure.manifest["results"]["words"] == []
    assert figure.pixels(dpi=40).ndim == 3


# -- warnings and errors --------------------------------------------------------------------------


def test_even_maps_are_warned_of() -> None:
    even = np.full((3, 7, 7), 1 / 49)
    nearly = even * np.random.default_rng(0).uniform(0.8, 1.2, even.shape)
    for alphas in (even, nearly):
        with pytest.warns(FlatAttention, match="nearly even"):
            figure = attend(said("a dog runs", alphas), noise(30, 30))
        assert isinstance(figure, Figure)  # and drawn all the same
        assert not np.isnan(upsample(alphas, (30, 30))).any()


def test_maps_that_do_not_change_are_warned_of() -> None:
    same = np.repeat(planted(1, 1, (7, 7))[None], 3, axis=0) + 1e-9
    with pytest.warns(FlatAttention, match="same for all words"):
        attend(said("a dog runs", same), noise(30, 30))


def test_useful_maps_are_not_warned_of() -> None:
    alphas = np.stack([planted(0, 1, (7, 7), 0.7), planted(3, 1, (7, 7), 0.7)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attend(said("a dog", alphas), noise(30, 30))
        attend(said("dog", np.ones((1, 1, 1))), noise(30, 30))  # a single cell has no choice


@pytest.mark.parametrize(
    ("caption", "options", "message"),
    [
        (said("a dog", np.ones((1, 2, 2))), {}, "one map"),
        (said("dog", np.ones((1, 4))), {}, "one map"),
        (said("dog", np.ones((1, 2, 2))), {"layout": "ring"}, "'grid' or 'strip', not 'ring'"),
        (said("dog", planted(0, 0, (2, 2))[None]), {"upsampling": "x"}, "'smooth' or 'block'"),
    ],
)
def test_what_cannot_be_drawn(caption: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DlmieError, match=message):
        attend(caption, noise(8, 8), **options)


def test_a_captioner_without_attention() -> None:
    caption = said("dog", np.ones((1, 1, 1)))
    caption.extras.clear()
    with pytest.raises(DlmieError, match="show-attend-tell"):
        attend(caption, noise(8, 8))
