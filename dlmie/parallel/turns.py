"""Batches that ranks work on in turn, with the answers in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from dlmie.parallel.ranks import Ranks

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_turns(
    items: Iterable[Item],
    work: Callable[[Iterator[Item]], Iterator[Answer]],
    ranks: Ranks,
) -> Iterator[tuple[Item, Answer]]:
    """Items and what is made of them, in order and on all ranks; one of these works on each.

    Parameters
    ----------
    items : iterable
        The same on all ranks, and cheap to go through: names, not what they stand for.
    work : callable
        From items to one answer for each, in order.
    ranks : Ranks

    Yields
    ------
    tuple
        An item and its answer; the first ones when every rank has made one, and no more are held.

    Examples
    --------
    >>> list(in_turns("ab", lambda letters: (each.upper() for each in letters), Ranks()))
    [('a', 'A'), ('b', 'B')]
    """
    if ranks.size == 1:
        begun: deque[Item] = deque()  # work may read ahead

        def noted() -> Iterator[Item]:
            for item in items:
                begun.append(item)
                yield item

        for answer in work(noted()):
            yield begun.popleft(), answer
        return
    listed = list(items)
    answers = work(islice(listed, ranks.rank, None, ranks.size))
    for start in range(0, len(listed), ranks.size):
        own = [next(answers)] if start + ranks.rank < len(listed) else []
        made = [answer for each in ranks.everyone(own) for answer in each]
        yield from zip(listed[start : start + ranks.size], made, strict=True)
