"""An agent's run that is killed at random moments ends with the bits of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_runs import check_equal, drive

pytest.importorskip("gymnasium")


def test_killed_twice_nothing_changes(tmp_path: Path) -> None:
    drive("q-table", tmp_path, kills=2, seed=1)
    check_equal(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dqn", "world-model"])
def test_killed_many_times_nothing_changes(tmp_path: Path, kind: str) -> None:
    drive(kind, tmp_path, kills=8, seed=2)
    check_equal(tmp_path)
