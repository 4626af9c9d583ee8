"""A run that is killed at random moments ends with the bits of one that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killed_runs import check_equal, drive

from dlmie.files import containers as storage


def test_killed_twice_nothing_changes(tmp_path: Path) -> None:
    drive("plain", tmp_path, kills=2, seed=1)
    check_equal(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "disk", "hard", "finetune"])
def test_killed_many_times_nothing_changes(kind: str, tmp_path: Path) -> None:
    drive(kind, tmp_path, kills=6, seed=2)
    check_equal(tmp_path)
    arrays = storage.load(tmp_path / "killed" / "run" / "state.h5")[1]
    assert np.isfinite(arrays["/embedding/W"]).all()
    assert ("/hard/baseline" in arrays) == (kind == "hard")
