"""What this machine could do at best: a bound on every row from its arithmetic and its memory.

    python -m benchmarks.limits

prints the two speeds that the bounds divide by.  A row counts the multiplications and additions of
the direct algorithm (Winograd's needs fewer, and may pass the bound) and the bytes that must come
from or go to memory if nothing is moved twice.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.timing import seconds
from dlmie.compilation import get_threads

# Additions and multiplications that one exp or tanh of float32 takes, its division included.
FUNCTION = 20


@dataclass(frozen=True)
class Work:
    """The least that a row must do: operations on float32, and bytes to and from memory."""

    flop: float = 0.0
    bytes: float = 0.0

    def limit(self) -> dict[str, Any]:
        """``limit_s``, and ``limited_by``: "arithmetic" or "memory"."""
        flops, bandwidth = machine_speed(get_threads())
        bounds = {"arithmetic": self.flop / flops, "memory": self.bytes / bandwidth}
        which = max(bounds, key=bounds.__getitem__)
        return {"limit_s": bounds[which], "limited_by": which}


@functools.cache
def machine_speed(threads: int) -> tuple[float, float]:
    """Operations a second in a large matrix product, and bytes a second in a large sum of arrays;
    the best of PyTorch's, which runs the processor vendor's library."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b, c = (torch.rand(2048, 2048) for _ in range(3))
        flops = 2 * 2048**3 / _best(lambda: torch.mm(a, b, out=c))
        x, y, z = (torch.rand(1 << 26) for _ in range(3))  # 256 MiB each: beyond the caches
        bandwidth = 3 * x.nbytes / _best(lambda: torch.add(x, y, out=z))
    finally:
        torch.set_num_threads(before)
    return flops, bandwidth


def _best(run: Callable[[], Any], rounds: int = 7) -> float:
    return min(seconds(run) for _ in range(rounds))


class _Counter(TorchDispatchMode):
    """Adds up what PyTorch's own formulas say of each product and convolution.

    Its FlopCounterMode does so as well, but not around ``torch.autograd.grad``.
    """

    flop = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # operations made of others count as those
                result = func.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        result = func(*args, **(kwargs or {}))
        if formula is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=result)
        return result


def counted(run: Callable[[], Any], **more: float) -> Work:
    """The operations that PyTorch counts in its own products and convolutions; ``more`` adds."""
    with _Counter() as counter:
        run()
    return Work(counter.flop + more.get("flop", 0), more.get("bytes", 0))


def nbytes(*arrays: np.ndarray) -> int:
    """Memory that the arrays take."""
    return sum(a.nbytes for a in arrays)


if __name__ == "__main__":
    speed = machine_speed(get_threads())
    print(json.dumps({"threads": get_threads(), "flop_s": speed[0], "bytes_s": speed[1]}))
