"""doctor, and commands on machines where something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def dlmie(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, on a machine that is short of something."""
    command = [sys.executable, "-m", "dlmie", *words]
    changed = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=changed)


def test_a_working_machine(invoke: Any) -> None:
    result = invoke("doctor", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["healthy"]
    checks = document["checks"]
    assert checks["blas"]["gflops"] > 0.1
    assert checks["threads"]["threads"] >= 1
    assert "pytensor" in checks["versions"]["packages"]
    assert Path(checks["cache"]["folder"]).is_dir()
    for name in ("python", "compiler", "python headers", "kernels", "linker", "encoder weights"):
        assert checks[name]["status"] == "ok", checks[name]


def test_the_cache_is_measured_while_others_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They delete the folders that they compile in."""
    from dlmie.cli import checks
    from dlmie.ops.runtime import cache

    passing = tmp_path / "dlmie_modules_x"
    passing.mkdir()
    (passing / "unit.so").write_bytes(b"12345")
    (tmp_path / "kept.so").write_bytes(b"123")
    walk = os.walk

    def walk_and_then_delete(folder: Path) -> Any:
        found = list(walk(folder))
        shutil.rmtree(passing, ignore_errors=True)
        return found

    monkeypatch.setattr(os, "walk", walk_and_then_delete)
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    (check,) = checks.check_cache()
    assert (check.status, check.numbers["bytes"]) == ("ok", 3)


def test_text_names_every_fix(invoke: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dlmie.cli import checks

    found = [
        checks.Check("fine", "all well"),
        checks.warning("slow", "only one processor", "use more"),
        checks.problem("broken", "no compiler", "install one"),
    ]
    monkeypatch.setattr("dlmie.cli.commands.doctor.run_all", lambda: iter(found))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "✗  broken" in result.stdout
    assert "→ install one" in result.stdout
    assert "→ use more" in result.stdout
    assert "1 problem to fix; 1 hint" in result.stdout


def test_a_check_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    from dlmie.cli import checks

    def fails() -> Any:
        raise RuntimeError("lost")
        yield

    monkeypatch.setattr(checks, "check_weights", fails)
    finding = next(check for check in checks.run_all() if check.name == "encoder weights")
    assert finding.status == "problem"
    assert "lost" in finding.value


class TestNoCompiler:
    def test_doctor_says_what_to_install(self) -> None:
        done = dlmie("doctor", "--json", PYTENSOR_FLAGS="cxx=")
        assert done.returncode == 1
        checks = json.loads(done.stdout)["checks"]
        assert checks["compiler"]["status"] == "problem"
        for word in ("apt install", "dnf install", "xcode-select", "conda install"):
            assert word in checks["compiler"]["fix"]

    @pytest.mark.parametrize("missing", ["PATH", "PYTENSOR_FLAGS"])
    def test_commands_fail_with_that_sentence(self, photographs: Path, missing: str) -> None:
        environment = {missing: "/nonexistent" if missing == "PATH" else "cxx="}
        done = dlmie("classify", str(photographs / "color.png"), **environment)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1, done.stderr
        assert "no C/C++ compiler found" in done.stderr
        assert "dlmie doctor" in done.stderr

    def test_the_demo_says_so_before_it_draws(self, tmp_path: Path) -> None:
        done = dlmie("demo", "--to", str(tmp_path / "demo"), PYTENSOR_FLAGS="cxx=")
        assert done.returncode == 1
        assert "no C/C++ compiler found" in done.stderr
        assert not (tmp_path / "demo").exists()

    def test_what_needs_none_works(self, tmp_path: Path) -> None:
        for name in ("said.txt", "meant.txt"):
            (tmp_path / name).write_text("a dog runs over there\n")
        words = ("score", str(tmp_path / "said.txt"), str(tmp_path / "meant.txt"), "--json")
        done = dlmie(*words, PYTENSOR_FLAGS="cxx=")
        assert json.loads(done.stdout)["bleu_4"] == 1.0
        assert done.stderr == ""


class TestReadOnlyHome:
    @pytest.fixture
    def home(self, tmp_path: Path) -> str:
        # A file where the home should be cannot be written by anyone, not even by root.
        (tmp_path / "home").write_text("")
        return str(tmp_path / "home")

    def test_one_line_names_the_flag(self, photographs: Path, home: str) -> None:
        done = dlmie("classify", str(photographs / "color.png"), HOME=home, PYTENSOR_FLAGS="")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "PYTENSOR_FLAGS=base_compiledir=" in done.stderr

    def test_doctor_names_it_too(self, home: str) -> None:
        done = dlmie("doctor", "--json", HOME=home, PYTENSOR_FLAGS="")
        assert done.returncode == 1
        cache = json.loads(done.stdout)["checks"]["cache"]
        assert cache["status"] == "problem"
        assert "base_compiledir" in cache["fix"]


def test_threads_are_obeyed() -> None:
    done = dlmie("doctor", "--json", "--threads", "1")
    threads = json.loads(done.stdout)["checks"]["threads"]
    assert threads["threads"] == 1
    assert threads["status"] == "ok"  # they were asked for


@pytest.mark.parametrize("healthy", [True, False])
def test_what_is_usual_is_compiled_ahead(
    healthy: bool, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlmie.cli import checks

    found = [] if healthy else [checks.problem("broken", "no compiler", "install one")]
    monkeypatch.setattr("dlmie.cli.commands.doctor.run_all", lambda: iter(found))
    warmed: list[object] = []
    monkeypatch.setattr("dlmie.cli.commands.doctor.compile_ahead", warmed.append)
    assert invoke("doctor", "--warm").exit_code == (0 if healthy else 1)
    assert len(warmed) == healthy
