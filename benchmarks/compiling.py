"""From a cold start to the first finished training step, with an empty and with a warm cache.

python -m benchmarks.compiling
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from typing import Any

from benchmarks.processes import output_of

# One step of Show, Attend and Tell with Adam, as a user's script does it, at the benchmark's size.
SCRIPT = """
import numpy as np
from types import SimpleNamespace
from dlmie import optim
from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.captioning.step import compile as compile_step

words = [*SPECIAL, *(f"word{i}" for i in range(8996))]
model = ShowAttendTell((512, 14, 14), Vocabulary(words), words=512, hidden=512, attention=512)
step = compile_step(model, optim.chain(optim.clip_norm(5.0), optim.adam(4e-4)), alpha_penalty=1.0)
rng = np.random.default_rng(0)
inputs = rng.random((64, 512, 14, 14), "float32")
tokens = rng.integers(4, 9000, (64, 21)).astype("int32")
loss, words = step(SimpleNamespace(inputs=inputs, tokens=tokens))
assert np.isfinite(loss)
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _first_step(cache: str) -> tuple[float, float]:
    """Seconds of a whole process, and its peak memory in GiB."""
    start = time.perf_counter()
    printed = output_of(SCRIPT, f"base_compiledir={cache}")
    return time.perf_counter() - start, int(printed.split()[-1]) / 2**20


@functools.cache
def _both() -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory() as cache:
        return {"cold": _first_step(cache), "warm": _first_step(cache)}


def _row(name: str, which: str, goal: float) -> dict[str, Any]:
    seconds, memory = _both()[which]
    return {
        "name": name,
        "dlmie_s": seconds,
        "torch_eager_s": None,
        "torch_channels_last_s": None,
        "torch_compile_s": None,
        "ratio": None,
        "goal": goal,  # seconds: at most
        "spread": None,
        "peak_memory_gib": memory,
    }


def compile_cold() -> dict[str, Any]:
    """Empty cache to the first finished Show-Attend-Tell training step, imports included."""
    return _row("compile_cold", "cold", 45)


def compile_warm() -> dict[str, Any]:
    """The same once more: everything compiled is found in the cache."""
    return _row("compile_warm", "warm", 8)


ROWS = {"compile_cold": compile_cold, "compile_warm": compile_warm}

if __name__ == "__main__":
    for name in sys.argv[1:] or ROWS:
        print(json.dumps(ROWS[name]()))
