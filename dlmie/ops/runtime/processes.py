"""Compilers as processes."""

from __future__ import annotations

import subprocess


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its exit code, with what it says as text."""
    return subprocess.run(command, capture_output=True, text=True, check=False)
