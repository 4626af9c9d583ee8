"""Damaged files, drawn from seeds: dlmie's own errors alone, no hang, no end of memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz_targets import TARGETS, Reached

from dlmie.errors import DlmieError

SUPPORT = Path(__file__).parents[1] / "support"
#: Damaged files for each reader; more for a longer search: DLMIE_FUZZ=100000 pytest -m slow …
COUNT = int(os.environ.get("DLMIE_FUZZ", "300"))


def search(command: list[str], count: int) -> list[dict[str, Any]]:
    """The errors that damaged files cause: the number of the file and what happened, of each."""
    first, found = 0, []
    while first < count:
        done = subprocess.run(
            [*command, str(first), str(count - first)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        found += [json.loads(line) for line in lines if line.startswith("{")]
        if lines and lines[-1] == "done":
            break
        numbers = [int(line.split()[1]) for line in lines if line.startswith("reading ")]
        assert numbers, done.stderr
        found.append({"number": numbers[-1], "error": f"it ended: {done.returncode} {done.stderr}"})
        first = numbers[-1] + 1
    return found


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SUPPORT / "fuzz_targets.py"), name, str(tmp_path)]
    found = search(command, COUNT)
    kinds = {entry["error"].strip().splitlines()[-1]: entry for entry in found}
    assert not found, "\n\n".join(
        [f"{len(found)} of {COUNT}, {len(kinds)} kinds", *(str(e["error"]) for e in kinds.values())]
        + [f"again: {' '.join(command)} {entry['number']} 1" for entry in kinds.values()]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_whole_files_are_read(name: str, tmp_path: Path) -> None:
    """Else damage would not be what a reader meets."""
    target, whole = TARGETS[name], tmp_path / "whole"
    whole.mkdir()
    target.make(whole)
    read, worked = set(), set()
    for path in target.whole(whole):
        for reading in target.readings:
            try:
                reading(Path(shutil.copy(path, tmp_path)))
            except Reached:
                pass
            except DlmieError:
                continue
            read.add(path.name)
            worked.add(reading)
    assert read == {path.name for path in target.whole(whole)} - target.refused
    assert worked == set(target.readings)


READER = """
import os, sys, time
sys.path.insert(0, {support!r})
import fuzz_targets as fuzz

def upset(path):
    {what}

fuzz.SECONDS, fuzz.PATIENCE, fuzz.BYTES = 1, 5, 2**28
fuzz.TARGETS["x"] = fuzz.Target(lambda folder: (folder / "a.x").write_text("x"), (upset,), (".x",))
fuzz.main("x", *sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("raise KeyError(7)", "KeyError: 7"),
        ("bytearray(2**30)", "MemoryError"),
        ("while True: pass", "it ended: -24"),
        ("time.sleep(60)", "it ended: -14"),
        ("os.abort()", "it ended: -6"),
        ("raise fuzz.DlmieError('is damaged')", None),
    ],
)
def test_what_upsets_a_reader_is_found(what: str, error: str | None, tmp_path: Path) -> None:
    script = tmp_path / "reader.py"
    script.write_text(READER.format(what=what, support=str(SUPPORT)))
    found = search([sys.executable, str(script), str(tmp_path)], 2)
    assert [entry["number"] for entry in found] == ([] if error is None else [0, 1])
    assert all(str(error) in entry["error"] for entry in found)
