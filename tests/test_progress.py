"""Progress in a log: whole lines, and few."""

from __future__ import annotations

import io

import pytest

from dlmie import progress
from dlmie.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("leave", [False, True])
def test_a_log_gets_whole_lines(leave: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))  # a second for each look at the clock
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    log = io.StringIO()
    with Bar(total=60, desc="images", file=log, mininterval=0, leave=leave) as bar:
        for _ in range(60):
            with bar.external_write_mode(file=log):
                log.write("a result\n")
            bar.update()
    lines = log.getvalue().split("\n")
    shown = [line for line in lines if line.startswith("images: ")]
    assert "\r" not in log.getvalue()
    assert 2 <= len(shown) <= 12
    assert all("/60 [" in line for line in shown)
    assert len(lines) == 61 + len(shown)


def test_a_short_task_writes_nothing_into_a_log() -> None:
    log = io.StringIO()
    assert list(Bar(range(5), file=log)) == [0, 1, 2, 3, 4]
    assert log.getvalue() == ""


def test_a_terminal_has_a_bar() -> None:
    terminal = Terminal()
    list(Bar(range(5), file=terminal, mininterval=0))
    assert "\r" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
