"""Runs that are killed at random moments, and compared with runs that are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dlmie.files import containers
from dlmie.training.loop import Position
from dlmie.training.runs import Run

_TIMING = {"seconds", "words_per_second", "images_per_second", "episodes_per_second"}


def drive(kind: str, folder: Path, *, kills: int, seed: int) -> None:
    """Train one run that is left alone and one that is killed so many times; see kill_driver."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    driver = Path(__file__).parent / "kill_driver.py"
    command = [sys.executable, str(driver), kind, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr


def records(folder: Path) -> list[dict[str, Any]]:
    """What was measured, without how long it took."""
    lines = Run(folder, Position(), None).log
    return [{k: v for k, v in line.items() if k not in _TIMING} for line in lines]


def check_equal(folder: Path) -> None:
    """Both runs that `drive` made hold the same bits."""
    whole, killed = folder / "whole" / "run", folder / "killed" / "run"
    for name in ("state.h5", "best.h5"):
        (header, one), (other_header, other) = (containers.load(f / name) for f in (whole, killed))
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
