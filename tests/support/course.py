"""The reference numbers of the course, and arrays compared with how they are described there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def course_entry(shared: Path, name: str) -> dict[str, Any]:
    """An entry of ``golden/course``."""
    text = (shared / "golden" / "course" / "golden_course.json").read_text(encoding="utf-8")
    entry: dict[str, Any] = json.loads(text)["entries"][name]
    return entry


def assert_matches(array: np.ndarray, expected: Any, rtol: float, atol: float = 1e-14) -> None:
    """An array against all of its numbers, or against its shape, sums, first and last numbers."""
    if not isinstance(expected, dict):
        np.testing.assert_allclose(array, expected, rtol=rtol, atol=atol)
        return
    assert list(array.shape) == expected["shape"]
    flat = array.astype(np.float64).ravel()
    first, last = expected["first"], expected["last"]
    np.testing.assert_allclose(flat[: len(first)], first, rtol=rtol, atol=atol)
    np.testing.assert_allclose(flat[-len(last) :], last, rtol=rtol, atol=atol)
    size = float(np.abs(flat).sum())
    np.testing.assert_allclose(size, expected["abs_sum"], rtol=rtol)
    np.testing.assert_allclose((flat * flat).sum(), expected["sq_sum"], rtol=rtol)
    np.testing.assert_allclose(flat.sum(), expected["sum"], rtol=rtol, atol=1e-12 * size)
