"""What the benchmark of ranks makes of its measurements; nothing is measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import ranks
from benchmarks.ranks import Measured, Program, exchange_seconds


def test_an_exchange_is_messages_bytes_and_sums() -> None:
    assert exchange_seconds(1, 100, 0.5, 100.0) == 0
    assert exchange_seconds(2, 100, 0.5, 100.0) == pytest.approx(1 + 1)
    assert exchange_seconds(4, 100, 0.0, 100.0) == pytest.approx(1.5)
    sums = exchange_seconds(2, 2_000_000_000, 0.0, float("inf"))
    assert sums == pytest.approx(1e9 / ranks.ADDED)


def test_processors_busy_time_is_that_of_programs(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    (tmp_path / "stat").write_text(
        f"cpu  {ticks} {2 * ticks} {3 * ticks} 99 99 99 99 0 0 0\ncpu0 1"
    )
    assert ranks._busy(tmp_path / "stat") == 6
    assert ranks._busy(tmp_path / "missing") == 0


class Disturbed(Program):
    """Measurements that are made up."""

    def __init__(self, *others: float) -> None:
        self.left: Iterator[float] = iter(others)

    def _ask(self, work: str) -> Measured:
        share = next(self.left)
        return Measured(rate=share, seconds=1.0, others=share)


def test_a_disturbed_measurement_is_repeated() -> None:
    assert Disturbed(0.01, 0.0).ask("x").others == 0.01
    assert Disturbed(0.5, 0.02, 0.0).ask("x").others == 0.02
    assert Disturbed(0.5, 0.3, 0.4, 0.6).ask("x").others == 0.3  # no more than TRIES


def test_how_much_others_disturbed_is_told() -> None:
    told = ranks.told_of_others([Measured(1, 1, share) for share in (0.0, 0.25)])
    assert "1 of 2 measurements" in told
    assert "25% at most" in told
