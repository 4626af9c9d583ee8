"""The pointing score: attention inside the boxes of named things, against chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlmie.captioning.decoding import Caption
from dlmie.captioning.metrics.pointing import pointing
from dlmie.data.captions.boxes import covered
from dlmie.data.scenes import plan_scene, scene_objects, write_sentences
from dlmie.errors import DataError


def caption(text: str, alphas: np.ndarray) -> Caption:
    return Caption([4] * len(text.split()), -1.0, -1.0, True, {"alphas": alphas}, text)


def delta(row: int, column: int, grid: tuple[int, int] = (3, 5)) -> np.ndarray:
    alpha = np.zeros(grid, np.float32)
    alpha[row, column] = 1
    return alpha


def test_coverage_equals_counting_points() -> None:
    rng = np.random.default_rng(0)
    for grid in ((1, 1), (3, 5), (7, 2)):
        boxes = [
            [top, left, top + height, left + width]
            for top, left, height, width in rng.uniform(-0.1, 0.9, (4, 4)) * [1, 1, 0.6, 0.6]
        ]
        side = 420  # points a side, a multiple of every grid
        y, x = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2, indexing="ij")
        hit = np.zeros((side, side))
        for top, left, bottom, right in boxes:
            hit[(top < y) & (y < bottom) & (left < x) & (x < right)] = 1
        counted = hit.reshape(grid[0], side // grid[0], grid[1], side // grid[1]).mean((1, 3))
        np.testing.assert_allclose(covered(boxes, grid), counted, atol=0.02)


def test_coverage_counts_overlap_once_and_clips() -> None:
    assert covered([[0, 0, 1, 1], [0, 0, 1, 1]], (2, 3)).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert covered([[-1, -1, 2, 0.5]], (1, 2)).tolist() == [[1, 0]]
    assert covered([[0.6, 0.6, 0.4, 0.4]], (2, 2)).sum() == 0  # upside down: nothing
    assert covered([], (2, 2)).sum() == 0


def test_only_named_things_count() -> None:
    things = [
        {"name": "star", "words": ["star"], "box": [0, 0, 1 / 3, 1 / 5]},
        {"name": "ring", "words": ["ring", "hoop"], "box": [2 / 3, 4 / 5, 1, 1]},
    ]
    alphas = np.array([delta(1, 1), delta(0, 0), delta(1, 1), delta(0, 0)])
    result = pointing([caption("a star over hoop", alphas)], [things])
    assert result.words == 2
    np.testing.assert_allclose(result.per_word, [1, 0], atol=1e-12)
    assert result.score == pytest.approx(0.5)
    assert result.chance == pytest.approx(1 / 15)


def test_the_boxes_of_one_name_unite() -> None:
    things = [
        {"words": ["stars"], "box": [0, 0, 1, 0.2]},
        {"words": ["stars"], "box": [0, 0.8, 1, 1]},
    ]
    even = np.full((1, 3, 5), 1 / 15)
    result = pointing([caption("stars", even)], [things])
    assert result.score == pytest.approx(0.4)
    assert result.chance == pytest.approx(0.4)
    assert np.isnan(result.shuffled)
    assert result.to_json()["pointing_shuffled"] is None


def test_rows_are_rows() -> None:
    things = [{"words": ["star"], "box": [0, 0.8, 1 / 3, 1]}]  # top right
    said = caption("star", delta(0, 4)[None])
    assert pointing([said], [things]).score == pytest.approx(1)
    turned = caption("star", delta(2, 0)[None])
    assert pointing([turned], [things]).score == 0


def test_shuffled_is_the_mean_over_the_other_words() -> None:
    rng = np.random.default_rng(1)
    captions, objects = [], []
    for _ in range(6):
        alphas = rng.dirichlet(np.ones(15), 1).reshape(1, 3, 5)
        captions.append(caption("star", alphas))
        top, left = rng.uniform(0, 0.5, 2)
        objects.append([{"words": ["star"], "box": [top, left, top + 0.4, left + 0.5]}])
    result = pointing(captions, objects)
    inside = [covered([o[0]["box"]], (3, 5)) for o in objects]
    pairs = [
        float((captions[j].extras["alphas"][0] * inside[i]).sum())
        for i in range(6)
        for j in range(6)
        if i != j
    ]
    assert result.shuffled == pytest.approx(np.mean(pairs))


def test_nothing_named() -> None:
    even = np.full((2, 3, 5), 1 / 15)
    for things in ([], None, [{"words": ["star"], "box": [0, 0, 1, 1]}]):
        result = pointing([caption("a moon", even)], [things])
        assert result.words == 0
        assert result.to_json()["pointing"] is None
        assert "no caption names" in str(result)
    assert pointing([caption("", np.zeros((0, 3, 5)))], [[]]).words == 0


def test_a_captioner_that_looks_beats_both_chances_on_scenes() -> None:
    captions: list[Any] = []
    objects: list[Any] = []
    for index in range(40):
        scene = plan_scene(0, "dev", index)
        things = scene_objects(scene, write_sentences(scene)[1])
        word = things[0]["words"][0]
        inside = covered([t["box"] for t in things if word in t["words"]], (8, 8))
        captions.append(caption(word, (inside / inside.sum())[None]))
        objects.append(things)
    result = pointing(captions, objects)
    # A cell that is only touched lies partly outside: not 1 even for who looks exactly there.
    assert result.score > 0.65
    assert result.chance < result.shuffled < 0.5 * result.score
    assert result.score < result.ceiling < 1


@pytest.mark.parametrize(
    ("captions", "objects"),
    [
        ([caption("a star", np.zeros((1, 2, 2)))], [[]]),
        ([caption("star", np.zeros((1, 4)))], [[]]),
        ([Caption([4], 0, 0, True, {}, "star")], [[]]),
        ([], [[]]),
    ],
)
def test_what_does_not_match_is_refused(captions: list[Caption], objects: list[Any]) -> None:
    with pytest.raises(DataError):
        pointing(captions, objects)


def test_brightest_cell_entropy_and_naming() -> None:
    things = [{"name": "star", "words": ["star"], "box": [0, 0, 1 / 3, 1 / 5]}]
    other = [{"name": "ring", "words": ["ring"], "box": [0, 0, 1, 1]}]
    spread = np.full((3, 5), 1 / 15)
    spread[0, 0] *= 1.01
    said = [
        caption("a star", np.array([delta(1, 1), spread])),
        caption("star ring", np.array([delta(1, 1), delta(0, 0)])),  # there is no ring
        caption("ring", np.array([delta(0, 0)])),
    ]
    result = pointing(said, [things, things, other])
    assert result.words == 3
    assert result.brightest == pytest.approx(2 / 3)
    assert result.naming == pytest.approx(3 / 4)
    assert result.entropy == pytest.approx(1 / 5, abs=1e-3)
    json = result.to_json()
    assert json["pointing_brightest"] == result.brightest
    assert json["attention_entropy"] == result.entropy
    assert json["naming"] == result.naming


def test_images_of_which_nothing_is_known_do_not_count() -> None:
    things = [{"name": "star", "words": ["star"], "box": [0, 0, 1, 1]}]
    said = [caption("star", np.array([delta(0, 0)]))] * 3
    result = pointing(said, [things, None, []])
    assert result.words == 1
    assert result.naming == pytest.approx(1 / 2)
    assert pointing(said, [None] * 3).to_json()["naming"] is None
