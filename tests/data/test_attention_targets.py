"""Where attention should rest, word by word and in every view of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlmie.data.captions.attention_targets import AttentionTargets
from dlmie.data.captions.vocabulary import END, PAD, SPECIAL, START, Vocabulary
from dlmie.data.images import view_image
from dlmie.data.images.views import FIRST_CROP, MIRRORED, PLAIN, view_boxes

VOCABULARY = Vocabulary([*SPECIAL, "a", "dog", "man", "ball"])
DOG: dict[str, Any] = {"words": ["dog"], "box": [0.0, 0.0, 0.5, 0.5]}
MEN: list[dict[str, Any]] = [
    {"words": ["man", "men"], "box": [0.5, 0.0, 1.0, 0.25]},
    {"words": ["man", "men"], "box": [0.5, 0.75, 1.0, 1.0]},
]


def tokens(*captions: str) -> np.ndarray:
    rows = [[START, *VOCABULARY.encode(caption.split()), END] for caption in captions]
    width = max(map(len, rows))
    return np.array([[*row, *[PAD] * (width - len(row))] for row in rows], np.int32)


def test_each_word_has_the_cells_of_its_thing() -> None:
    targets = AttentionTargets([[DOG, *MEN], None, []], VOCABULARY, (2, 4), 64)
    said = tokens("a dog a man", "a dog", "dog ball")
    found = targets(said, np.array([0, 1, 2]), np.zeros(3, int))
    assert found.shape == (5, 3, 8)
    assert found.dtype == np.float32
    assert found[1, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert found[3, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 1]  # both men
    assert found[[0, 2, 4], 0].sum() == 0  # "a", "a", the end
    assert found[:, 1:].sum() == 0  # what the images show is not known, or nothing


def test_attributes_beside_a_name_are_of_what_it_names() -> None:
    words = ["a", "big", "red", "box", "cup", "cups", "with", "dots", "two", "is"]
    vocabulary = Vocabulary([*SPECIAL, *words])
    box = {"attributes": ["a", "big", "red", "with", "dots"], "box": [0.0, 0.0, 1.0, 0.25]}
    cups = [
        {"words": ["cup", "cups"], "attributes": ["two", "big"], "box": [0.0, left, 1.0, right]}
        for left, right in ((0.5, 0.75), (0.75, 1.0))
    ]
    targets = AttentionTargets([[{**box, "words": ["box"]}, *cups]], vocabulary, (1, 4), 64)

    def seen(caption: str) -> str:
        tokens = np.array([[START, *vocabulary.encode(caption.split()), END]])
        maps = targets(tokens, np.array([0]), np.array([0]))[:, 0]
        names = {(1, 0, 0, 0): "b", (0, 0, 1, 1): "c", (0, 0, 0, 0): "-"}
        return "".join(names[tuple(row)] for row in maps.tolist())

    assert seen("a big red box") == "bbbb-"
    assert seen("two big cups is a box with dots") == "ccc-bbbb-"
    # Between two names what it is said of counts, and what follows where that is both.
    assert seen("box with dots two cups") == "bbbcc-"
    assert seen("box big cups") == "bcc-"
    # Only the box is red and has dots; "is" ends what is said beside a name.
    assert seen("two red cups") == "--c-"
    assert seen("box is big") == "b---"
    assert seen("big red is a") == "-----"


def test_each_of_several_things_may_have_its_map() -> None:
    options: Any = ([[DOG, *MEN], None], VOCABULARY, (2, 4), 64)
    targets, each = AttentionTargets(*options), AttentionTargets(*options, each=True)
    batch = (tokens("a dog a man", "dog"), np.array([0, 1]), np.array([0, 0]))
    union, found = targets(*batch), each(*batch)
    assert found.shape == (5, 2, 2, 8)  # (time, batch, things, cells)
    np.testing.assert_array_equal(found[1, 0], [union[1, 0], np.zeros(8)])
    np.testing.assert_array_equal(found[3, 0].max(axis=0), union[3, 0])
    assert (found[3, 0].max(axis=1) > 0).all()  # a map for each of the men
    assert found[:, 1].sum() == 0
    assert each(tokens("a"), np.array([0]), np.array([0])).shape == (2, 1, 1, 8)


def test_the_mirror_image_has_mirrored_targets() -> None:
    targets = AttentionTargets([[DOG]], VOCABULARY, (2, 4), 64)
    found = targets(tokens("dog"), np.array([0]), np.array([MIRRORED]))
    assert found[0, 0].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("view", [PLAIN, MIRRORED, *range(FIRST_CROP, FIRST_CROP + 6)])
def test_boxes_are_where_views_show_them(view: int) -> None:
    """A white rectangle, seen in a view, lies where its box does."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[18:42, 24:48] = 255
    box = [18 / 60, 24 / 80, 42 / 60, 48 / 80]
    seen = view_image(image, view, 7)[..., 0].astype(float)
    bright = seen > (seen.min() + seen.max()) / 2
    ((top, left, bottom, right),) = view_boxes([box], (60, 80), view, 7)
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    assert abs(rows[0] - 60 * top) <= 1
    assert abs(rows[-1] + 1 - 60 * bottom) <= 1
    assert abs(columns[0] - 80 * left) <= 1
    assert abs(columns[-1] + 1 - 80 * right) <= 1


def test_what_a_crop_does_not_show_is_left_out() -> None:
    corners = [[0, 0, 0.01, 0.01], [0, 0.99, 0.01, 1], [0.99, 0, 1, 0.01], [0.99, 0.99, 1, 1]]
    shown = [len(view_boxes(corners, (64, 64), view, 0)) for view in range(FIRST_CROP, 20)]
    assert min(shown) == 0
    assert max(shown) < 4
    assert view_boxes([], (64, 64), FIRST_CROP, 0) == []


def test_targets_of_crops() -> None:
    whole = {"words": ["dog"], "box": [0.0, 0.0, 1.0, 1.0]}
    targets = AttentionTargets([[whole]], VOCABULARY, (3, 3), 64)
    for view in (FIRST_CROP, FIRST_CROP + 1):
        found = targets(tokens("dog"), np.array([0]), np.array([view]))
        np.testing.assert_allclose(found[0, 0], 1)
