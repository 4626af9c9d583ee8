"""What the rows of compile time run is a training step that works."""

from __future__ import annotations

import pytest

from benchmarks.compiling import script
from benchmarks.processes import ProcessFailed, output_of


@pytest.mark.slow
def test_the_measured_script_takes_a_step() -> None:
    printed = output_of(script(words=20, hidden=8, grid=2, batch=4, time=3))
    assert int(printed.split()[-1]) > 1000  # its peak memory


def test_a_script_that_fails_is_named_by_its_last_line() -> None:
    with pytest.raises(ProcessFailed, match=r"failed: ValueError: no step$"):
        output_of("raise ValueError('no step')")
