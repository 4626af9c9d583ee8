"""Text for people: the nearest known name, tables, sizes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for an error about an unknown name, with the list of known ones."""
    known = list(known)
    return f"{nearest(name, known)} (known: {', '.join(known)})"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for an error about an unknown name, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def printable(text: str) -> str:
    """Text that can be written anywhere: bytes of file names that are not UTF-8 as ``\\xe9``."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, which no file name gives
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def format_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Plain text columns: the first flush left, the others flush right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def bytes_text(count: float) -> str:
    """A number of bytes: ``14.7 MB``."""
    power = min(max(len(f"{count:.0f}") - 1, 0) // 3, 3)
    unit = ("bytes", "KB", "MB", "GB")[power]
    return f"{count / 1000**power:,.{min(power, 1)}f} {unit}"
