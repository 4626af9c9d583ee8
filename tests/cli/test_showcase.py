"""``dlmie showcase``: the best and the worst captions, exchanged by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlmie.captioning.evaluation import evaluate
from dlmie.data.captions.dataset import Captions


@pytest.fixture(scope="module")
def shown(run: Path, invoke: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trained captioner, with a list beside it."""
    page = tmp_path_factory.mktemp("showcase") / "page.html"
    result = invoke("showcase", run, "--good", 2, "--bad", 3, "--to", page, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["page"] == str(page)
    assert document["list"] == str(page.with_suffix(".json"))
    return page


def test_the_best_and_the_worst_by_cider_d(shown: Path, run: Path, scenes: Path) -> None:
    chosen = json.loads(shown.with_suffix(".json").read_text())
    split = Captions(scenes)["dev"]
    scores = evaluate(run, split)
    ranks = dict(zip(split.names, scores.per_image["cider_d"], strict=True))
    assert {n: each["score"] for n, each in chosen["captions"].items()} == {
        name: round(float(rank), 4) for name, rank in ranks.items()
    }
    good, bad = ([ranks[name] for name in chosen[group]] for group in ("good", "bad"))
    others = [ranks[n] for n in ranks if n not in chosen["good"] + chosen["bad"]]
    assert (len(good), len(bad), len(others)) == (2, 3, 3)
    assert good == sorted(good, reverse=True)
    assert bad == sorted(bad)
    assert min(good) >= max(others) >= min(others) >= max(bad)
    page = shown.read_text()
    assert re.findall(r'<p class="name">(.*?)</p>', page) == chosen["good"] + chosen["bad"]
    assert page.count("data:image/jpeg") == 5
    for name in chosen["good"]:
        assert chosen["captions"][name]["caption"] in page


def test_examples_are_exchanged_by_hand(
    shown: Path, invoke: Callable[..., Any], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.json"
    document = json.loads(shown.with_suffix(".json").read_text())
    other = next(n for n in document["captions"] if n not in document["good"] + document["bad"])
    document["good"][0], document["bad"] = other, document["bad"][:1]
    mine.write_text(json.dumps(document))
    page = tmp_path / "again.html"
    result = invoke("showcase", "--list", mine, "--to", page, "--quiet")
    assert result.exit_code == 0, result.output
    found = re.findall(r'<p class="name">(.*?)</p>', page.read_text())
    assert found == document["good"] + document["bad"]
    assert json.loads(mine.read_text()) == document


def test_bad_input_is_told_in_one_line(
    shown: Path, run: Path, fails: Callable[..., str], tmp_path: Path
) -> None:
    listed = shown.with_suffix(".json")
    assert "name a MODEL, or a list" in fails("showcase", code=2)
    assert "name a MODEL, or a list" in fails("showcase", run, "--list", listed, code=2)
    line = fails("showcase", "--list", listed, "--good", 3, "--to", tmp_path / "p.html", code=2)
    assert "--good does not go with --list" in line
    assert "perhaps changed by hand" in fails("showcase", run, "--to", shown, code=2)
    assert "name the page" in fails("showcase", run, "--to", listed, code=2)
    document = json.loads(listed.read_text())
    for change, problem in (
        ({"good": ["nowhere.png"]}, "dev has no image 'nowhere.png'"),
        ({"good": document["bad"]}, "is listed twice"),
        ({"good": "all"}, "good must be a list"),
        ({"format": "other"}, "is not a list that dlmie showcase wrote"),
        ({"data": {**document["data"], "hash": "0"}}, "chosen from other data"),
    ):
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps({**document, **change}))
        assert problem in fails("showcase", "--list", wrong, "--to", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
