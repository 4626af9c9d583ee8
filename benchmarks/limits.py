"""What this machine could do at best: bounds on every row by arithmetic and by memory.

    python -m benchmarks.limits

prints the two speeds that the bounds divide by.  A row counts the multiplications and additions of
the direct algorithm (Winograd's needs fewer, and may pass the bound) and the bytes that must come
from or go to memory if nothing is moved twice.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

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
    """Operations per second in a large matrix product, bytes per second in a large sum of arrays.

    The best of several runs of PyTorch's, which uses the processor vendor's library.
    """
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
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


class _Counter(TorchDispatchMode):
    """Adds up what PyTorch's own formulas give for each product and convolution.

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


def counted(run: Callable[[], Any], *, flop: float = 0, bytes: float = 0) -> Work:
    """The operations that PyTorch counts in its products and convolutions, plus ``flop``."""
    with _Counter() as counter:
        run()
    return Work(counter.flop + flop, bytes)


def nbytes(*arrays: np.ndarray) -> int:
    """Memory that the arrays take."""
    return sum(a.nbytes for a in arrays)


if __name__ == "__main__":
    speed = machine_speed(get_threads())
    print(json.dumps({"threads": get_threads(), "flop_s": speed[0], "bytes_s": speed[1]}))
