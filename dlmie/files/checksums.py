"""Checksums by which content is recognized, the same on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def hash_json(value: Any) -> str:
    """The SHA-256 (hex) of JSON values."""
    text = json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
