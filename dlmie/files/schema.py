"""The one checker of documents: headers, manifests, other JSON that anyone may have changed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlmie.errors import DataError, DlmieError

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a mapping",
    list: "a list",
}


@dataclass(frozen=True)
class Key:
    """What the value of a key must be.

    Attributes
    ----------
    kind : type
        bool, int, float, str, dict or list; float takes whole numbers, too.
    low, high : number, optional
        Bounds of a number, both included.
    required : bool
        Whether the key must be there.
    null : bool
        Whether null is a value.
    length : int, optional
        How many values a list has.
    each : Key, optional
        What each value of a list or a mapping must be.
    keys : mapping, optional
        Keys of a mapping.
    among : tuple
        The values that there are; none: any.
    """

    kind: type
    low: float | None = None
    high: float | None = None
    required: bool = True
    null: bool = False
    length: int | None = None
    each: Key | None = None
    keys: Mapping[str, Key] | None = None
    among: tuple[str, ...] = ()

    def accepts(self, value: object) -> bool:
        """Whether a value is of the kind and within the bounds, whatever is in it."""
        kinds = (int, float) if self.kind is float else self.kind
        if not isinstance(value, kinds) or (isinstance(value, bool) and self.kind is not bool):
            return False
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low = self.low is None or value >= self.low
            return low and (self.high is None or value <= self.high)
        if isinstance(value, list) and self.length not in (None, len(value)):
            return False
        return not self.among or value in self.among

    @property
    def expected(self) -> str:
        """What a value should be, in words."""
        if self.among:
            return " or ".join(map(repr, self.among))
        words = _WORDS[self.kind]
        if self.length is not None:
            return f"{words} of {self.length} values"
        if self.low is not None and self.high is not None:
            return f"{words} from {self.low:g} to {self.high:g}"
        return words if self.low is None else f"{words}, at least {self.low:g}"


def check_document(
    document: Any,
    keys: Mapping[str, Key],
    source: str | os.PathLike[str],
    error: type[DlmieError] = DataError,
) -> dict[str, Any]:
    """Check a document; keys that are not known are left alone.

    Returns
    -------
    dict
        The document.

    Raises
    ------
    DataError
        ``FILE: training.batch must be a whole number, not "x"``.

    Examples
    --------
    >>> check_document({"size": 8}, {"size": Key(int, low=1)}, "data.h5")
    {'size': 8}
    """
    problem = _problem(document, Key(dict, keys=keys), "")
    if problem is not None:
        raise error(f"{source}: {problem}")
    return document


def _problem(value: object, key: Key, name: str) -> str | None:
    """The first thing that is wrong with a value."""
    if value is None and key.null:
        return None
    if not key.accepts(value):
        return f"{name or 'the document'} must be {key.expected}, not {_shown(value)}"
    below = f"{name}." if name else ""
    if isinstance(value, dict) and key.keys is not None:
        for part, wanted in key.keys.items():
            if part in value:
                if (problem := _problem(value[part], wanted, below + part)) is not None:
                    return problem
            elif wanted.required:
                return f"{below}{part} is missing"
    if key.each is not None and isinstance(value, (dict, list)):
        inside = value if isinstance(value, dict) else dict(enumerate(value))
        for place, item in inside.items():
            if (problem := _problem(item, key.each, f"{below}{place}")) is not None:
                return problem
    return None


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}…"
