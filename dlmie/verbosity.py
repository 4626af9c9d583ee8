"""Whether to announce on standard error what takes long, though nobody asked: commands do."""

from __future__ import annotations

from contextvars import ContextVar

announcing: ContextVar[bool] = ContextVar("announcing", default=False)
