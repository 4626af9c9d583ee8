"""Fixtures that the tests of every folder share."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest


def pytest_configure() -> None:
    """Heed the signals that nohup, or a shell's background, hands down as ignored."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data for development, which a user's machine does not have."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the development data beside the checkout (../shared)")
    return folder


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Reference numbers of recurrent cells and caption losses, computed with NumPy in float64."""
    path = Path(__file__).parent / "golden" / "recurrent.json"
    return json.loads(path.read_text(encoding="utf-8"))
