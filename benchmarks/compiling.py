"""Rows of ``dlmie bench``: from start to first training step, with an empty and a filled cache."""

from __future__ import annotations

import functools
import tempfile
import time
from functools import partial

from benchmarks.processes import output_of
from benchmarks.timing import Entry

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


def first_step(cache: str) -> Entry:
    """Seconds from start to the first finished step, imports included; the cache cold or warm."""
    seconds, memory = _both()[cache]
    return {"dlmie_s": seconds, "peak_memory_gib": memory}


ROWS = {
    "compile_cold": partial(first_step, "cold"),
    "compile_warm": partial(first_step, "warm"),
}
