"""Sums whose order does not depend on who adds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def add_pairwise(parts: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """Add lists of arrays, element by element, in a fixed binary tree.

    (0 + 1) + (2 + 3) and so on.  The sums of 2, 4 … consecutive parts are those of a smaller tree,
    so it does not matter which of them one process adds.  No more than log₂(parts) + 1 lists are
    held at a time; they are added in place.

    Parameters
    ----------
    parts : iterable of list of array
        As many as a power of two.

    Examples
    --------
    >>> import numpy as np
    >>> add_pairwise([np.array([n])] for n in range(4))
    [array([6])]
    """
    import numpy as np

    held: list[tuple[int, list[np.ndarray]]] = []  # (how many parts, their sum)
    for part in parts:
        count = 1
        while held and held[-1][0] == count:
            _, before = held.pop()
            part = [np.add(a, b, out=a) for a, b in zip(before, part, strict=True)]
            count *= 2
        held.append((count, part))
    ((_, total),) = held
    return total
