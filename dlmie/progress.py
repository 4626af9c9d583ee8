"""Progress on standard error: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import time
from typing import TextIO

from tqdm import tqdm

_SECONDS = 10.0  # between lines of a log
_LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class Bar(tqdm):
    """A tqdm bar that writes whole lines, and few, where standard error is no terminal."""

    _next_line: float | None = None  # when it is due, in a log

    @property
    def _is_log(self) -> bool:
        return not getattr(self.fp, "isatty", bool)()

    @staticmethod
    def status_printer(file: TextIO):  # type: ignore[no-untyped-def]
        """What writes a state of the bar."""
        if getattr(file, "isatty", bool)():
            return tqdm.status_printer(file)

        def write(text: str) -> None:
            if text.strip():
                file.write(f"{text}\n")
                file.flush()

        return write

    def refresh(self, *arguments: object, **options: object) -> bool | None:
        """Show the state; in a log no more often than every ten seconds, and not at first."""
        if not self.disable and self._is_log:
            now = time.monotonic()
            if self._next_line is None:
                self._next_line = now + _SECONDS
            if now < self._next_line:
                return None
            self._next_line, self.bar_format = now + _SECONDS, _LINE
        return super().refresh(*arguments, **options)

    def clear(self, *arguments: object, **options: object) -> None:
        """Make room for other text, which a log need not."""
        if self.disable or not self._is_log:
            super().clear(*arguments, **options)

    def close(self) -> None:
        """End the bar; a log keeps what was written."""
        if not self.disable and self._is_log:
            self.delay = float("inf")  # to tqdm, a bar that was never shown: nothing to remove
        super().close()
