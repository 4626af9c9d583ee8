"""Searching options: combinations, drawn values, and trials that are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlmie.errors import DlmieError
from dlmie.training.metric import Metric
from dlmie.training.search import FILE, Choice, Search, Trial, drawn, grid, name_of


def test_all_combinations() -> None:
    choices = [Choice.parse("lr=1e-3,1e-4"), Choice.parse("weight-decay=0, 0.1")]
    found = grid(choices)
    assert [name_of(values) for values in found] == [
        *("lr=1e-3,weight_decay=0", "lr=1e-3,weight_decay=0.1"),
        *("lr=1e-4,weight_decay=0", "lr=1e-4,weight_decay=0.1"),
    ]


def test_drawn_values() -> None:
    choices = [Choice.parse(text) for text in ("lr=1e-5..1e-1", "hidden=10..500", "norm=a,b")]
    choices[1] = replace(choices[1], whole=True)
    found = drawn(choices, 400, seed=3)
    assert found[:5] == drawn(choices, 5, seed=3)
    assert found[:5] != drawn(choices, 5, seed=4)
    logarithms = np.log10([float(values["lr"]) for values in found])
    assert -5 <= logarithms.min() < -4.9
    assert -1.1 < logarithms.max() <= -1
    assert abs(np.median(logarithms) + 3) < 0.3
    hidden = [int(values["hidden"]) for values in found]
    assert min(hidden) >= 10
    assert max(hidden) <= 500
    assert {values["norm"] for values in found} == {"a", "b"}
    even = [float(Choice.parse("x=0..1").draw(np.random.default_rng(i))) for i in range(200)]
    assert abs(np.mean(even) - 0.5) < 0.06


def test_trials_are_kept_and_the_best_is_found(tmp_path: Path) -> None:
    search = Search.open(tmp_path / "s", {"over": ["lr=1,2,3"]})
    for word, scores in (("1", [0.5, 0.7]), ("2", [0.61, 0.61]), ("3", [0.2, 0.1])):
        search.add(Trial({"lr": word}, scores))
    again = Search.open(tmp_path / "s", {"over": ["lr=1,2,3"]})
    assert again.trials == search.trials
    assert again.known({"lr": "4"}) is None
    best = again.best(Metric("accuracy"))
    assert (best.values, best.mean, best.deviation) == ({"lr": "2"}, 0.61, 0)
    assert again.best(Metric("loss", higher_is_better=False)).values == {"lr": "3"}
    with pytest.raises(DlmieError, match="holds a search with other options"):
        Search.open(tmp_path / "s", {"over": ["lr=1"]})
    (tmp_path / "s" / FILE).write_text('{"about": {}, "trials": [{"values": {}}]}')
    with pytest.raises(DlmieError, match=FILE):
        Search.open(tmp_path / "s", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", "write NAME=VALUE,VALUE or NAME=LOWEST..HIGHEST"),
        ("lr=", "write NAME=VALUE"),
        ("lr=2..1", "a range is two numbers, the smaller one first"),
        ("norm=a..b", "a range is two numbers"),
    ],
)
def test_choices_that_are_not(text: str, message: str) -> None:
    with pytest.raises(DlmieError, match=message):
        Choice.parse(text)


def test_a_range_has_no_end_of_values() -> None:
    with pytest.raises(DlmieError, match="lr is a range: say how many values to draw"):
        grid([Choice.parse("lr=1..2")])
