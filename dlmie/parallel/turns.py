"""Batches that ranks work on in turn, with the answers in order."""

from __future__ import annotations

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
) -> Iterator[Answer]:
    """What is made of items, in their order and on all ranks; each is worked on by one of them.

    Parameters
    ----------
    items : iterable
        The same on all ranks, and cheap to go through: names, not what they stand for.
    work : callable
        From items to one answer for each, in order.
    ranks : Ranks

    Yields
    ------
    answer
        The first ones when every rank has made one: no more than that are held.

    Examples
    --------
    >>> list(in_turns("ab", lambda letters: (each.upper() for each in letters), Ranks()))
    ['A', 'B']
    """
    if ranks.size == 1:
        yield from work(iter(items))
        return
    listed = list(items)
    answers = work(islice(listed, ranks.rank, None, ranks.size))
    for start in range(0, len(listed), ranks.size):
        own = [next(answers)] if start + ranks.rank < len(listed) else []
        for made in ranks.everyone(own):
            yield from made
