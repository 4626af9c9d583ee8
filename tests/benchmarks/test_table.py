"""The table of docs/performance.md is written from measured numbers only."""

from __future__ import annotations

from docs_blocks import ROOT

from benchmarks.table import BEGIN, END, HEAD, cells, update


def test_rows_are_replaced_and_others_kept() -> None:
    page = f"# Speed\n{BEGIN}\nNothing yet.\n{END}\nMore.\n"
    first = {"name": "beam5", "dlmie_s": 0.5, "torch_eager_s": 1.25, "ratio": 2.5, "goal": 2.0}
    second = {"name": "compile_cold", "dlmie_s": 31.04, "ratio": None, "goal": 45}
    page = update(page, [first, second], "a machine")
    assert page.count(HEAD) == 1
    assert "| `beam5` | 500.0 ms | 1,250.0 ms | – | – | – | – | 2.50 × | 2.0 | – |" in page
    assert "| `compile_cold` | 31.0 s |" in page
    assert page.endswith(f"Measured on a machine.\n{END}\nMore.\n")
    page = update(page, [{**first, "dlmie_s": 0.25, "ratio": 5.0, "spread": 0.031}], "another")
    assert "| `beam5` | 250.0 ms | 1,250.0 ms | – | – | – | – | 5.00 × | 2.0 | 3 % |" in page
    assert page.count("`compile_cold`") == 1
    assert page.count("`beam5`") == 1


def test_the_page_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert page.index(BEGIN) < page.index(END)


def test_a_row_that_failed_keeps_the_numbers_of_the_page() -> None:
    page = f"# Speed\n{BEGIN}\nNothing yet.\n{END}\nMore.\n"
    measured = {"name": "beam5", "dlmie_s": 0.5, "torch_eager_s": 1.25, "ratio": 2.5, "goal": 2.0}
    page = update(page, [measured], "a machine")
    failed = {"name": "beam5", "dlmie_s": None, "ratio": None, "goal": 2.0, "error": "they differ"}
    assert "| 2.50 × | 2.0 |" in update(page, [failed], "a machine")


def test_goals_in_seconds_are_told_from_ratios() -> None:
    failed = {"dlmie_s": None, "ratio": None, "error": "it failed"}
    assert "≤ 45 s" in cells({"name": "compile_cold", "goal": 45, **failed})
    assert "1.7" in cells({"name": "vgg16_forward", "goal": 1.7, **failed})
