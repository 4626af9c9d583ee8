"""Whether what takes long is told on standard error where nobody asked for it: by commands."""

from __future__ import annotations

from contextvars import ContextVar

told: ContextVar[bool] = ContextVar("told", default=False)
