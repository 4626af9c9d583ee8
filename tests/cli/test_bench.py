"""dlmie bench: rows are found, chosen and printed as documented; nothing is timed here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import ROOT

from dlmie.cli.commands import bench

FIELDS = ("name", "dlmie_s", "torch_eager_s", "torch_channels_last_s", "torch_compile_s", "ratio")


def fake(calls: list[Any]) -> dict[str, Any]:
    """Rows that measure nothing: one knows of torch.compile, one does not."""

    def fast(compile: bool = False) -> dict[str, Any]:
        calls.append(("fast", compile))
        times = dict(zip(FIELDS[1:], (0.25, 1.0, 0.5, None, 2.0), strict=True))
        return {**times, "spread": 0.1, "limit_s": 0.2, "limited_by": "memory"}

    def always(compile: bool = True) -> dict[str, Any]:
        calls.append(("always", compile))
        return {**fast(), "ratio_eager": 4.0}

    def plain() -> dict[str, Any]:
        calls.append(("plain", None))
        return {"dlmie_s": 30.0, "not_run": {"OpenVINO": "it is not installed"}}

    return {"vgg16_forward": fast, "efficientnet_lite0_forward": always, "compile_cold": plain}


def wrong() -> dict[str, Any]:
    """A row whose kernel computes something else."""
    import numpy as np

    from benchmarks.agreement import EVERY_ELEMENT
    from benchmarks.timing import race

    x = np.arange(8.0)
    return race(lambda: x[::-1], lambda: x, tolerance=EVERY_ELEMENT)


def broken() -> dict[str, Any]:
    raise RuntimeError("no\nmemory for this")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []
    rows = {**fake(made), "extra": fake(made)["vgg16_forward"]}
    monkeypatch.setattr(bench, "load_rows", lambda: (rows, {}))
    return made


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The first rows fail, one by wrong numbers and one by an exception."""
    made: list[Any] = []
    rows = {**fake(made), "vgg16_forward": wrong, "efficientnet_lite0_forward": broken}
    monkeypatch.setattr(bench, "load_rows", lambda: (rows, {"ascent": "there is no torch"}))
    return made


def test_plain_runs_the_rows_with_goals_and_torch_compile_only_where_it_belongs(
    calls: list[Any], invoke: Any
) -> None:
    result = invoke("bench", "--json", "--quiet")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    names = [row["name"] for row in rows]
    assert names == ["vgg16_forward", "efficientnet_lite0_forward", "compile_cold"]
    for row in rows:
        assert set(FIELDS) <= set(row)
        assert "error" not in row
        assert row["wall_s"] >= 0
    assert [row["goal"] for row in rows] == [1.7, 1.1, 20]
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
    assert "1.1, eager 1.9" in text
    assert "≤ 20 s" in text
    assert "200.0 ms memory" in text


def test_the_text_says_which_engines_did_not_run_and_why(calls: list[Any], invoke: Any) -> None:
    result = invoke("bench", "--quiet")
    assert result.exit_code == 0
    assert "\ncompile_cold: without OpenVINO: it is not installed\n" in result.stdout


def test_an_unknown_row_is_named(calls: list[Any], fails: Any) -> None:
    assert "did you mean 'vgg16_forward'" in fails("bench", "vgg16_foward", code=2)


def test_a_row_that_fails_says_so_and_ends_nothing(failing: list[Any], invoke: Any) -> None:
    result = invoke("bench", "--json", "--quiet")
    assert result.exit_code == 1
    differs, raised, measured = json.loads(result.stdout)
    assert differs["error"].startswith("dlmie and PyTorch differ: 0.00 % of the elements")
    assert raised["error"] == "RuntimeError: no memory for this"
    assert differs["goal"] == 1.7
    assert differs["ratio"] is None
    assert measured["dlmie_s"] == 30.0
    assert result.stderr.splitlines() == [
        "dlmie bench: 2 of 3 rows failed: vgg16_forward, efficientnet_lite0_forward"
    ]


def test_the_text_says_which_rows_failed_and_why(failing: list[Any], invoke: Any) -> None:
    result = invoke("bench", "--quiet")
    assert result.exit_code == 1
    assert "compile_cold" in result.stdout
    assert "\nefficientnet_lite0_forward: RuntimeError: no memory for this\n" in result.stdout
    assert "Traceback" not in result.output


def test_debug_shows_where_a_row_failed(failing: list[Any], invoke: Any) -> None:
    result = invoke("bench", "efficientnet_lite0_forward", "compile_cold", "--debug")
    assert "in broken" in result.stderr
    assert "30.0 s" in result.stdout


def test_a_row_of_a_module_that_was_not_loaded(failing: list[Any], fails: Any) -> None:
    assert "ascent.py was not loaded: there is no torch" in fails(
        "bench", "vgg16_ascent_step", code=2
    )


class TestFolder:
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Dlmie lies in site-packages."""
        module = tmp_path / "site-packages" / "dlmie" / "__init__.py"
        monkeypatch.setattr("dlmie.__file__", str(module))

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        folder = tmp_path / "checkout"
        shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
        return folder

    def test_a_checkout_has_its_own(self) -> None:
        assert bench.find_benchmarks() == ROOT / "benchmarks"

    @pytest.mark.usefixtures("installed")
    def test_installed_it_is_that_of_the_current_folder(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(checkout)
        assert bench.find_benchmarks() == (checkout / "benchmarks").resolve()

    def test_it_is_named_itself_or_by_its_checkout(self, checkout: Path) -> None:
        folder = (checkout / "benchmarks").resolve()
        assert bench.find_benchmarks(str(folder)) == folder
        assert bench.find_benchmarks(str(checkout)) == folder

    @pytest.mark.usefixtures("installed")
    def test_without_a_checkout(self, tmp_path: Path, monkeypatch: Any, fails: Any) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "benchmarks").mkdir()  # another project's
        line = fails("bench")
        assert "clone the repository" in line
        assert "--benchmarks" in line

    def test_a_folder_that_has_none_is_named(self, tmp_path: Path, fails: Any) -> None:
        line = fails("bench", "--benchmarks", tmp_path / "other")
        assert str(tmp_path / "other") in line
        assert "rows.py" in line


def test_the_measured_processes_use_the_dlmie_that_runs_not_the_one_beside_the_benchmarks(
    tmp_path: Path,
) -> None:
    """An installed dlmie in a checkout, whose own dlmie must not be measured."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "dlmie").mkdir()
    (tmp_path / "dlmie" / "__init__.py").write_text("raise ImportError('the wrong dlmie')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import dlmie\n"
        "from pathlib import Path\n"
        "from dlmie.cli.commands.bench import use_benchmarks\n"
        f"use_benchmarks(Path({str(tmp_path / 'benchmarks')!r}))\n"
        "from benchmarks.processes import output_of\n"
        "print(output_of('import benchmarks.rows, dlmie; print(benchmarks.rows.__file__)'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "benchmarks" / "rows.py"
