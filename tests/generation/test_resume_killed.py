"""A generator's run that is killed at random moments ends with the bits of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_runs import check_equal, drive


@pytest.mark.slow
def test_killed_many_times_nothing_changes(tmp_path: Path) -> None:
    drive("gan", tmp_path, kills=8, seed=2)
    check_equal(tmp_path)
