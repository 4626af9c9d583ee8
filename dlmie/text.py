"""Text for people: the nearest known name, tables, sizes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def suggest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for an error about an unknown name, with the list of known ones."""
    known = list(known)
    return f"{nearest(name, known)} (known: {', '.join(known)})"


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean ...?`` for an error about an unknown name, or nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.51)  # not "a" for "cat"
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


# Controls but for the ends of lines and tabs, marks that turn the direction of writing, halves of
# letters (bytes of a file name that are no UTF-8), and ends of lines that few programs know.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    "\ufff9-\ufffb\ud800-\udfff]"
)


def for_terminal(text: str, limit: int | None = None) -> str:
    """Text of others as a terminal may show it: escaped, and cut in the middle if it is long.

    Examples
    --------
    >>> for_terminal("a\\x1b[31mred")
    'a\\\\x1b[31mred'
    """
    shown = _UNPRINTABLE.sub(_escaped, text)
    if limit is None or len(shown) <= limit:
        return shown
    end = limit // 4
    return f"{shown[: limit - end - 3]} … {shown[-end:]}"


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file name
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"
