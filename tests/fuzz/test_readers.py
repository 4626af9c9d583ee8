"""Damaged files, drawn from seeds: dlmie's own errors alone, no hang, no end of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

SUPPORT = Path(__file__).parents[1] / "support"
#: Damaged files for each reader; more for a longer search: DLMIE_FUZZ=100000 pytest -m slow …
COUNT = int(os.environ.get("DLMIE_FUZZ", "300"))


@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SUPPORT / "fuzz_targets.py"), name, str(tmp_path)]
    first, found = 0, []
    while first < COUNT:
        done = subprocess.run(
            [*command, str(first), str(COUNT - first)],
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
    kinds = {entry["error"].strip().splitlines()[-1]: entry for entry in found}
    assert not found, "\n\n".join(
        [f"{len(found)} of {COUNT}, {len(kinds)} kinds", *(str(e["error"]) for e in kinds.values())]
        + [f"again: {' '.join(command)} {entry['number']} 1" for entry in kinds.values()]
    )
