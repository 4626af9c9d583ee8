"""Text and JSON files that anyone wrote: decoded and parsed here, with one line for any fault."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlmie.errors import DataError, DlmieError
from dlmie.files.opening import check_readable

# UTF-32 comes first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Makes a value of the pairs of a JSON object, as ``json.loads`` takes it.
PairsHook = Callable[[list[tuple[str, Any]]], Any]


def plain_value(value: object) -> object:
    """A path, a NumPy number or a NumPy array as what JSON can hold."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def json_text(
    value: Any, *, indent: int | None = 2, default: Callable[[Any], Any] | None = None
) -> str:
    """Plain values as JSON in UTF-8, also where a file name in it is none.

    Examples
    --------
    >>> json_text(["café", os.fsdecode(b"caf\\xe9")], indent=None)
    '["café", "caf\\\\udce9"]'
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=default)
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def find_encoding(start: bytes) -> str:
    """Name the encoding of a text by its first bytes: UTF-8 unless a mark or zeros say otherwise.

    Without a mark, text whose first characters are ASCII shows UTF-16 by its zeros (RFC 4627).
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in start[:4]]
    if zeros == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False, True, False] else "utf-8"


def decode(
    raw: bytes,
    where: str | os.PathLike[str],
    encoding: str | None = None,
    *,
    errors: str = "strict",
    error: type[DlmieError] = DataError,
) -> str:
    """Decode a whole text; line ends become ``\\n``, and nothing else ends a line.

    Parameters
    ----------
    raw
        The bytes of the file.
    where
        What messages call it.
    encoding
        Its encoding where that is known; default: see :func:`find_encoding`.
    errors
        What becomes of bytes that are not in it, as for ``bytes.decode``.
    error
        What is raised.

    Raises
    ------
    DataError
        If the encoding is not known to Python or the bytes are not in it.
    """
    named = encoding or find_encoding(raw)
    try:
        text = raw.decode(named, errors)
    except (LookupError, ValueError) as problem:
        raise error(f"{where}: {_undecodable(named, encoding, problem)}") from None
    # U+2028 and its kin, which str.splitlines() takes for ends of lines, may stand in a caption.
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _undecodable(named: str, encoding: str | None, error: Exception) -> str:
    if isinstance(error, LookupError):
        return f"the encoding {named!r} is not known; examples are utf-8, utf-16 and cp1252"
    place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
    if encoding is not None:
        return f"is not in the encoding {named}{place}"
    shown = "UTF-8" if named.startswith("utf-8") else named.upper()
    return f"is not {shown} text{place}; name its encoding, such as cp1252"


def read_text(
    path: str | os.PathLike[str], encoding: str | None = None, error: type[DlmieError] = DataError
) -> str:
    """Read a text file; see :func:`decode`.

    Raises
    ------
    DataError
        If it is missing or cannot be read or decoded.
    """
    return decode(read_bytes(path, error), path, encoding, error=error)


def read_bytes(path: str | os.PathLike[str], error: type[DlmieError] = DataError) -> bytes:
    """All of a file.

    Raises
    ------
    DataError
        If it is missing, no regular file, or cannot be read.
    """
    check_readable(path, error)
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror or problem})") from None


def read_json(
    path: str | os.PathLike[str],
    error: type[DlmieError] = DataError,
    *,
    encoding: str | None = None,
    pairs: PairsHook | None = None,
) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path
        The file.
    error
        What is raised.
    encoding
        Of the text, see :func:`decode`.
    pairs
        Makes the value of each object from its pairs; default: a dict.

    Raises
    ------
    DataError
        In one line: it is missing, cannot be read or decoded, or is not JSON.
    """
    return parse_json(read_text(path, encoding, error), path, error, pairs=pairs)


def parse_json(
    text: str | bytes,
    path: str | os.PathLike[str],
    error: type[DlmieError] = DataError,
    *,
    pairs: PairsHook | None = None,
) -> Any:
    """Parse JSON text that was found in ``path``; for the other parameters see :func:`read_json`.

    Raises
    ------
    DataError
        In one line: where the text stops being JSON, that it is nested too deeply, or that a number
        has too many digits for Python to convert.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno}, column {problem.colno}"
        raise error(f"{path}: is not JSON ({where}: {problem.msg})") from None
    except RecursionError:
        raise error(f"{path}: is not used: its JSON is nested too deeply") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: is not UTF-8 text (byte {problem.start})") from None
    except ValueError:  # more than sys.get_int_max_str_digits(), 4,300 unless changed
        raise error(f"{path}: is not used: a number in its JSON has too many digits") from None
