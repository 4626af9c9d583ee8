"""Several processes that work on one command, as ``mpiexec -n N dlmie …`` starts them."""

from dlmie.parallel.failures import together
from dlmie.parallel.ranks import Ranks, world
from dlmie.parallel.shards import WHOLE, Shards
from dlmie.parallel.turns import in_turns

__all__ = ["WHOLE", "Ranks", "Shards", "in_turns", "together", "world"]
