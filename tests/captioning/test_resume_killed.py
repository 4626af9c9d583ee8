"""A run that is killed at random moments ends with the bits of one that is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.files import containers as storage
from dlmie.training.loop import Position
from dlmie.training.runs import Run

SUPPORT = Path(__file__).parents[1] / "support"


def drive(kind: str, folder: Path, kills: int, seed: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        str(SUPPORT / "kill_driver.py"),
        kind,
        str(folder),
        str(kills),
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def records(folder: Path) -> list[dict[str, Any]]:
    """What was measured, without how long it took."""
    timing = {"seconds", "words_per_second"}
    lines = Run(folder, Position(), None).log
    return [{k: v for k, v in line.items() if k not in timing} for line in lines]


def check(folder: Path) -> None:
    whole, killed = folder / "whole" / "run", folder / "killed" / "run"
    for name in ("state.h5", "best.h5"):
        (header, one), (other_header, other) = (storage.load(f / name) for f in (whole, killed))
        assert sorted(one) == sorted(other)
        for key, array in one.items():
            assert array.dtype == other[key].dtype
            assert array.tobytes() == other[key].tobytes(), f"{key} of {name} differs"
        for h in (header, other_header):
            h.get("position", {}).pop("seconds", None)
            h.pop("log_bytes", None)
            h.get("meta", {}).get("scores", {}).pop("seconds", None)
        assert header == other_header
    assert records(whole) == records(killed)
    assert records(whole)[-1]["epoch"] == 3
    assert not list(killed.glob("*.part"))


def test_killed_twice_nothing_changes(tmp_path: Path) -> None:
    drive("plain", tmp_path, kills=2, seed=1)
    check(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "disk", "hard", "finetune"])
def test_killed_many_times_nothing_changes(kind: str, tmp_path: Path) -> None:
    drive(kind, tmp_path, kills=6, seed=2)
    check(tmp_path)
    arrays = storage.load(tmp_path / "killed" / "run" / "state.h5")[1]
    assert np.isfinite(arrays["/embedding/W"]).all()
    assert ("/hard/baseline" in arrays) == (kind == "hard")
