"""Run Python code in a process of its own, which imports this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def output_of(code: str, flags: str = "") -> str:
    """What the code prints; ``flags`` are added to ``PYTENSOR_FLAGS``."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(x for x in (root, os.environ.get("PYTHONPATH")) if x)
    settings = ",".join(x for x in (os.environ.get("PYTENSOR_FLAGS"), flags) if x)
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTENSOR_FLAGS": settings, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"the measured process failed: {result.stderr[-500:]}")
    return result.stdout
