"""Which rows of a batch a rank computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlmie.errors import DlmieError
from dlmie.parallel.ranks import Ranks

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Shards:
    """The shards of every batch that a rank computes: numbers ``start`` to ``stop - 1`` of ``of``.

    Shard k of n has every n-th row of a batch, from row k on.

    Attributes
    ----------
    start, stop : int
    of : int
        All shards of a batch.
    fixed : bool
        Whether their number was asked for: sums are then added in an order that does not depend on
        the number of ranks.
    """

    start: int = 0
    stop: int = 1
    of: int = 1
    fixed: bool = False

    @classmethod
    def of_rank(cls, ranks: Ranks, count: int | None = None) -> Shards:
        """The shards of this rank, of so many in all; by default there is one for each rank.

        Raises
        ------
        DlmieError
            Their number is not a power of two, or the ranks cannot have equally many.
        """
        if count is None:
            return cls(ranks.rank, ranks.rank + 1, ranks.size)
        if count < 1 or count & (count - 1):
            raise DlmieError(f"shards is {count}; it must be 1, 2, 4, 8 or another power of two")
        if count % ranks.size:
            raise DlmieError(
                f"{count} shards cannot be divided among {ranks.size} ranks: start 1, 2, 4 … of "
                f"them, up to {count}"
            )
        own = count // ranks.size
        return cls(ranks.rank * own, (ranks.rank + 1) * own, count, fixed=count > 1)

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Rows of each of these shards in a batch of so many rows."""
        return tuple(len(range(k, rows, self.of)) for k in range(self.start, self.stop))

    def rows(self, rows: int) -> np.ndarray:
        """The rows of these shards in a batch, one shard after the other: (rows,) int.

        Where they have none it is row 0, which counts for nothing: every rank has something to
        compute.
        """
        import numpy as np

        own = [np.arange(k, rows, self.of) for k in range(self.start, self.stop)]
        found = np.concatenate(own)
        return found if len(found) else np.zeros(1, found.dtype)


WHOLE = Shards()
"""All of a batch, in one process."""
