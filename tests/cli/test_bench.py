"""dlmie bench: rows are found, chosen and printed as documented; nothing is timed here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dlmie.cli.commands import bench

FIELDS = ("name", "dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s", "ratio")


def fake(calls: list[Any]) -> dict[str, Any]:
    """Rows that measure nothing: one knows of torch.compile, one does not."""

    def fast(compile: bool = False) -> dict[str, Any]:
        calls.append(("fast", compile))
        times = dict(zip(FIELDS[1:], (0.25, 1.0, 0.5, None, 2.0), strict=True))
        return {**times, "goal": 1.5, "spread": 0.1, "limit_s": 0.2, "limited_by": "memory"}

    def always(compile: bool = True) -> dict[str, Any]:
        calls.append(("always", compile))
        return {**fast(), "ratio_eager": 4.0, "goal_eager": 1.9}

    def plain() -> dict[str, Any]:
        return {"dlmie_s": 30.0, "ratio": None, "goal": 45.0, "spread": None}

    return {"vgg16_forward": fast, "efficientnet_lite0_forward": always, "compile_cold": plain}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    rows = {**fake(made), "extra": fake(made)["vgg16_forward"]}
    monkeypatch.setattr(bench, "load_rows", lambda: rows)
    return made


def test_plain_runs_the_rows_with_goals_and_torch_compile_only_where_it_belongs(
    calls: list[Any], invoke: Any
) -> None:
    rows = json.loads(invoke("bench", "--json", "--quiet").stdout)
    names = [row["name"] for row in rows]
    assert names == ["vgg16_forward", "efficientnet_lite0_forward", "compile_cold"]
    assert set(FIELDS) <= set(rows[0])
    assert ("fast", False) in calls
    assert ("always", True) in calls


def test_compile_adds_torch_compile_and_all_the_other_rows(calls: list[Any], invoke: Any) -> None:
    assert invoke("bench", "--all", "--list").stdout.split()[-1] == "extra"
    assert invoke("bench", "vgg16_forward", "--compile").exit_code == 0
    assert calls == [("fast", True)]


def test_the_text_is_the_table_of_the_documentation(calls: list[Any], invoke: Any) -> None:
    text = invoke("bench", "--quiet").stdout
    assert "250.0 ms" in text
    assert "2.00 ×, eager 4.00 ×" in text
    assert "1.5, eager 1.9" in text
    assert "≤ 45 s" in text
    assert "200.0 ms memory" in text


def test_an_unknown_row_is_named(calls: list[Any], fails: Any) -> None:
    assert "vgg16_forward" in fails("bench", "vgg16_foward", code=2)
