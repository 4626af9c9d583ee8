"""Run Python code in a process of its own, with the dlmie that this process has imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dlmie
from dlmie.errors import DlmieError

# The checkout, which is needed for `benchmarks`, must not hide an installed dlmie.
IMPORTS = """
import sys
sys.path.insert(0, {dlmie!r})
import dlmie
sys.path[0] = {checkout!r}
"""


class ProcessFailed(DlmieError):
    """The measured process ended with an error."""


def output_of(code: str, flags: str = "") -> str:
    """What the code prints; ``flags`` are added to ``PYTENSOR_FLAGS``.

    Raises
    ------
    ProcessFailed
        It ended with an error; the last line of which is named.
    """
    here = Path(__file__).resolve().parents[1]
    imports = IMPORTS.format(dlmie=str(Path(dlmie.__file__).parents[1]), checkout=str(here))
    settings = ",".join(x for x in (os.environ.get("PYTENSOR_FLAGS"), flags) if x)
    result = subprocess.run(
        [sys.executable, "-c", imports + code],
        env={**os.environ, "PYTENSOR_FLAGS": settings},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise ProcessFailed(f"the measured process failed: {lines[-1][:500]}")
    return result.stdout
