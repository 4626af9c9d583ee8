"""What stands where a caption should: texts, lists of texts, and lists written as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# A list of quoted texts as JSON, Python, pandas or NumPy write it.  Each alternative begins with a
# character that no other one does, so that matching takes linear time.
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LIST = re.compile(rf"[\[(]\s*{_QUOTED}(?:(?:\s*,\s*|\s+){_QUOTED})*\s*,?\s*[\])]", re.DOTALL)
_ITEM = re.compile(_QUOTED, re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_CODES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

# Begins and ends as data do, not as sentences do.
_STRUCTURE = re.compile(
    r"\s*(?:\[\s*(?:['\"\[{]|-?\d+(?:\.\d+)?\s*[,\]]|np\.|array)|\{\s*['\"]|(?:list|array)\s*\()"
    r".*[\])}]\s*",
    re.DOTALL,
)

#: Keys under which objects hold a caption (Karpathy's ``raw`` first).
_KEYS = ("raw", "caption", "text", "sentence")


def captions_in(value: object) -> list[Any]:
    """Give the captions that one value of a file holds.

    A text is one caption, unless it is a list of texts written out, ``"['a dog', 'two dogs']"``.
    An object that holds its caption as ``raw``, ``caption``, ``text`` or ``sentence`` stands for
    it.  What is not text is returned as it is, for :func:`fault` to name.

    Examples
    --------
    >>> captions_in("['a dog', \\"the dog's ball\\"]"), captions_in(["a dog", {"raw": "dogs"}])
    (['a dog', "the dog's ball"], ['a dog', 'dogs'])
    """
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in _texts(each)]
    return _texts(value)


def _texts(value: object) -> list[Any]:
    if isinstance(value, Mapping):
        return [next((value[key] for key in _KEYS if key in value), value)]
    if not isinstance(value, str):
        return [value]
    written = value.strip()
    brackets = written[:1] + written[-1:]
    if brackets not in ("[]", "()") or not _LIST.fullmatch(written):
        return [value]
    items = _ITEM.findall(written)
    # One text in round brackets is a sentence in quotation marks and brackets.
    return [value] if brackets == "()" and len(items) == 1 else [_unquote(item) for item in items]


def _unquote(item: str) -> str:
    text = _ESCAPE.sub(_escaped, item[1:-1])
    # JSON writes characters beyond U+FFFF as two halves.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _escaped(found: re.Match[str]) -> str:
    code = found.group(1)
    return chr(int(code[1:], 16)) if len(code) > 1 else _CODES.get(code, code)


def fault(text: object) -> str | None:
    """Say why a value cannot be used as a text, in words that follow its name; None if it can."""
    if not isinstance(text, str):
        return f"is not text but {type(text).__name__}"
    if not text.strip():
        return "is empty"
    if "\0" in text:
        return "holds a NUL character"
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return "is not valid UTF-8 (name the encoding of the file, such as cp1252)"
    return None


def caption_fault(caption: object) -> str | None:
    """Say why a value is not a caption, in words that follow its name; None if it can be one."""
    if isinstance(caption, str) and _STRUCTURE.fullmatch(caption):
        return "is a list or an object written as text, not a sentence"
    return fault(caption)
