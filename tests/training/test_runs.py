"""Run folders: one process at a time, and a folder in which nothing was begun stays free."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dlmie.errors import DataError, DlmieError
from dlmie.training import runs


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Runs whose model and data are left out: what happens is up to the test."""
    made = SimpleNamespace(save=lambda loop: None, train=lambda *_, **__: "trained")

    def write(folder: Path, config: Any) -> None:
        (folder / runs.CONFIG).write_text("{}")

    monkeypatch.setattr(runs, "write_config", write)
    monkeypatch.setattr(runs, "read_config", lambda folder: None)
    monkeypatch.setattr(runs, "_check_schedules", lambda *_: None)
    monkeypatch.setattr(runs, "_loop", lambda *_, **__: (None, made, None))
    monkeypatch.setattr(runs, "_finish", lambda *_, **__: made.train())
    return made


def begin(folder: Path) -> Any:
    nothing: Any = None
    return runs.begin(folder, nothing, nothing, nothing, nothing, progress=False)


def test_two_processes_do_not_train_one_run(tmp_path: Path, unbuilt: SimpleNamespace) -> None:
    folder = tmp_path / "run"

    def train() -> str:
        with pytest.raises(DataError, match=r"run: another process is training this run"):
            runs.resume(folder)
        with pytest.raises(DataError, match=r"run: another process is training this run"):
            begin(folder)
        return "trained"

    unbuilt.train = train
    assert begin(folder) == "trained"


@pytest.mark.parametrize("error", [DlmieError("the disk is full"), KeyboardInterrupt()])
def test_a_run_that_could_not_begin_can_be_begun_again(
    error: BaseException, tmp_path: Path, unbuilt: SimpleNamespace
) -> None:
    def full(loop: Any) -> None:
        raise error

    unbuilt.save = full
    with pytest.raises(type(error)):
        begin(tmp_path / "run")
    unbuilt.save = lambda loop: None
    assert begin(tmp_path / "run") == "trained"
    with pytest.raises(DlmieError, match="holds a run already"):
        begin(tmp_path / "run")
