"""Captions of scenes, claim by claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlmie.data.scenes import (
    Group,
    Scene,
    check_caption,
    plan_scene,
    prepare_scenes,
    scenes_of,
    truth,
    write_sentences,
)
from dlmie.data.scenes.claims import parse_caption
from dlmie.errors import DataError

STAR = Group("star", "red", "small", "striped")
RING = Group("ring", "blue", "large", "plain")
HEARTS = Group("heart", "pink", "small", "plain", 3)


def scene(*groups: Group, relation: str, background: str = "navy") -> Scene:
    return Scene(groups, relation, (), background, "flat", 0)


ALONE = scene(STAR, relation="top left")
PAIR = scene(STAR, RING, relation="left")
ROW = scene(HEARTS, relation="row")
INSIDE = scene(STAR, RING, relation="inside")
ABOVE = scene(HEARTS, RING, relation="above")


@pytest.mark.parametrize("split", ["train", "dev"])
def test_every_sentence_of_the_grammar_is_wholly_true(split: str) -> None:
    for index in range(150):
        drawn = plan_scene(3, split, index)
        for sentence in write_sentences(drawn, 6)[0]:
            false = [claim for claim in check_caption(sentence, drawn) if not claim.true]
            assert not false, sentence


def test_sentences_of_other_scenes_are_not() -> None:
    scenes = [plan_scene(0, "dev", i) for i in range(60)]
    said = [write_sentences(one)[0][0] for one in scenes]
    result = truth(said[1:] + said[:1], scenes)
    assert result.truth == 0
    assert 0.1 < result.claims < 0.5


@pytest.mark.parametrize(
    ("caption", "drawn"),
    [
        ("a small red striped star in the top left corner", ALONE),
        ("A red star with stripes at the top left.", ALONE),
        ("in the top left corner there is a red star", ALONE),
        ("a red star on a dark background", ALONE),
        ("a red star to the left of a large blue ring", PAIR),
        ("a blue hoop is on the right of a red star", PAIR),
        ("a blue ring beside a little red star", PAIR),
        ("three pink hearts side by side", ROW),
        ("a row of three small pink hearts", ROW),
        ("a blue ring with a red striped star in the center", INSIDE),
        ("a big blue ring around a red star", INSIDE),
        ("a large blue ring with three pink hearts above it", ABOVE),
        ("three pink hearts at the top and a blue ring at the bottom", ABOVE),
    ],
)
def test_true_captions(caption: str, drawn: Scene) -> None:
    assert all(claim.true for claim in check_caption(caption, drawn))


def test_a_phrase_without_a_color_is_not_of_the_grammar() -> None:
    assert parse_caption("a hoop is on the right of a star") is None


@pytest.mark.parametrize(
    ("caption", "drawn", "false"),
    [
        ("a small blue star in the top left corner", ALONE, ["color"]),
        ("a large green star in the top left corner", ALONE, ["color", "size"]),
        ("a red dotted star in the top left corner", ALONE, ["texture"]),
        ("a red star with dots at the top", ALONE, ["texture", "relation"]),
        ("a red star on a light background", ALONE, ["background"]),
        ("a red circle in the top left corner", ALONE, ["shape"]),
        ("two red stars scattered around", ALONE, ["count", "relation"]),
        ("a red star right of a blue ring", PAIR, ["relation"]),
        ("a red star above a blue ring", PAIR, ["relation"]),
        ("a blue star left of a red ring", PAIR, ["color", "color"]),
        ("a red star in the middle", PAIR, ["relation"]),
        ("three pink hearts in a column", ROW, ["relation"]),
        ("four pink hearts in a row", ROW, ["count"]),
        ("a red star around a blue ring", INSIDE, ["relation"]),
        ("a red star beside a blue ring", INSIDE, ["relation"]),
        ("a blue ring over three pink hearts", ABOVE, ["relation"]),
        ("a red star in a red star", ALONE, ["count", "shape", "color", "relation"]),
        ("a a red star", ALONE, ["sentence"]),
        ("two red star in a row", ALONE, ["sentence"]),
        ("", ALONE, ["sentence"]),
    ],
)
def test_false_claims_are_named(caption: str, drawn: Scene, false: list[str]) -> None:
    found = [claim.kind for claim in check_caption(caption, drawn) if not claim.true]
    assert sorted(found) == sorted(false)


def test_shares() -> None:
    said = ["a red star at the top left", "a red star on the left side", "nonsense"]
    result = truth(said, [ALONE] * 3)
    assert result.truth == pytest.approx(1 / 3)
    assert result.claims == pytest.approx(7 / 9)  # four claims, four, and one
    assert result.to_json() == {"truth": result.truth, "truth_claims": result.claims}
    assert "of 9 claims" in str(result)
    assert np.isnan(truth([], []).truth)
    with pytest.raises(DataError, match="2 captions but 1 scenes"):
        truth(["a", "b"], [ALONE])


def test_scenes_of_a_prepared_file(tmp_path: Path) -> None:
    data = prepare_scenes(
        tmp_path / "s.h5", seed=5, train=3, dev=2, test=1, size=32, progress=False
    )
    split = data["dev"]
    assert scenes_of(split.names, split.source) == [plan_scene(5, "dev", i) for i in range(2)]


@pytest.mark.parametrize(
    "source", [{}, {"format": "flickr"}, {"format": "scenes", "version": 0, "seed": 0}]
)
def test_other_data_show_no_scenes(source: dict[str, object]) -> None:
    assert scenes_of(["dev-00001"], source) is None
