"""The 1,000 classes of ImageNet (ILSVRC 2012), as numbers and as names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from dlmie.errors import DlmieError


@cache
def classes() -> tuple[str, ...]:
    """Short English names in ImageNet's order: each is different, ``crane (bird)`` for instance.

    Examples
    --------
    >>> classes()[207]
    'golden retriever'
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


def class_index(target: int | str, names: Sequence[str] | None = None) -> int:
    """The number of a class given by number or name.

    Parameters
    ----------
    target : int or str
        ``207``, ``"207"`` or ``"golden retriever"``; capitals do not matter.
    names : sequence of str, optional
        The classes' names in order (default: ImageNet's).

    Raises
    ------
    DlmieError
        No such class; the message names the closest ones.

    Examples
    --------
    >>> class_index("Golden Retriever")
    207
    """
    names = classes() if names is None else names
    text = str(target).strip()
    if text.lstrip("-").isdecimal():
        if not 0 <= int(text) < len(names):
            raise DlmieError(f"there is no class {text}: classes are 0 to {len(names) - 1}")
        return int(text)
    lower = [name.lower() for name in names]
    if text.lower() in lower:
        return lower.index(text.lower())
    holding = [name for name in lower if text.lower() in re.findall(r"\w+", name)]
    close = (holding or difflib.get_close_matches(text.lower(), lower, cutoff=0.5))[:3]
    guesses = [repr(names[lower.index(name)]) for name in close]
    hint = f"did you mean {' or '.join(guesses)}?" if guesses else "use its number"
    few = len(names) <= 20
    known = ", ".join(names) if few else f"dlmie classify --list shows all {len(names):,}"
    raise DlmieError(f"there is no class {text!r}; {hint} ({known})")


@cache
def everyday_words() -> tuple[tuple[str, ...], ...]:
    """What captions call each class: ``cat``, ``cats`` and ``kitten`` are words for five of them.

    A class that captions hardly ever name has none.

    Examples
    --------
    >>> everyday_words()[285]
    ('cat', 'cats', 'kitten')
    """
    words: list[list[str]] = [[] for _ in classes()]
    text = Path(__file__).with_name("imagenet_words.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        numbers = [part for part in line.split() if part[0].isdigit()]
        for part in numbers:
            first, _, last = part.partition("-")
            for number in range(int(first), int(last or first) + 1):
                words[number] += line.split()[len(numbers) :]
    return tuple(tuple(dict.fromkeys(each)) for each in words)
