"""Rows of ``dlmie bench``: from start to the first result, with an empty and a filled cache."""

from __future__ import annotations

import functools
import tempfile
import time
from functools import partial

import numpy as np

from benchmarks.processes import ProcessFailed, output_of
from benchmarks.timing import Entry
from dlmie.data.images import save_image

# One step of Show, Attend and Tell with Adam, as a user's script does it.
SCRIPT = """
import numpy as np
from dlmie import optim
from dlmie.captioning.step import compile
from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
from dlmie.models.captioners.show_attend_tell import ShowAttendTell

words = [*SPECIAL, *(f"word{{i}}" for i in range({words} - len(SPECIAL)))]
sizes = dict(embedding={hidden}, hidden={hidden}, attention={hidden})
model = ShowAttendTell(({hidden}, {grid}, {grid}), Vocabulary(words), **sizes)
step = compile(model, optim.chain(optim.clip_norm(5.0), optim.adam(4e-4)), alpha_penalty=1.0)
rng = np.random.default_rng(0)
inputs = rng.random(({batch}, {hidden}, {grid}, {grid}), "float32")
tokens = rng.integers(len(SPECIAL), {words}, ({batch}, {time} + 1)).astype("int32")
result = step({{"inputs": inputs, "tokens": tokens}})
assert np.isfinite(result.sums["loss"])
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def script(
    *, words: int = 9000, hidden: int = 512, grid: int = 14, batch: int = 64, time: int = 20
) -> str:
    """What a measured process runs, of the size of the row ``show_attend_tell_step``.

    It prints its peak memory in KiB.
    """
    return SCRIPT.format(words=words, hidden=hidden, grid=grid, batch=batch, time=time)


def _first_step(cache: str) -> tuple[float, float]:
    """Seconds of a whole process, and its peak memory in GiB."""
    start = time.perf_counter()
    printed = output_of(script(), f"base_compiledir={cache}")
    return time.perf_counter() - start, int(printed.split()[-1]) / 2**20


@functools.cache
def _both() -> dict[str, tuple[float, float]]:
    with tempfile.TemporaryDirectory() as cache:
        return {"cold": _first_step(cache), "warm": _first_step(cache)}


def first_step(cache: str) -> Entry:
    """Seconds from start to the first finished step, imports included; the cache cold or warm."""
    seconds, memory = _both()[cache]
    return {"dlmie_s": seconds, "peak_memory_gib": memory}


# `dlmie caption photo.png`, without the start of Python itself.
CAPTION = """
from dlmie.cli import main
sys.argv = ["dlmie", "caption", {photo!r}]
main()
"""


@functools.cache
def _captions() -> dict[str, float]:
    """Seconds of a whole command that captions one photograph; warm: the fastest of five."""
    with tempfile.TemporaryDirectory() as folder:
        photo, cache = f"{folder}/photo.png", f"{folder}/cache"
        save_image(photo, np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
        seconds, said = [], set()
        for _ in range(6):
            start = time.perf_counter()
            said.add(output_of(CAPTION.format(photo=photo), f"base_compiledir={cache}"))
            seconds.append(time.perf_counter() - start)
    if len(said) != 1:
        raise ProcessFailed(f"captions differ from run to run: {sorted(said)}")
    return {"cold": seconds[0], "warm": min(seconds[1:])}


def first_caption(cache: str) -> Entry:
    """Seconds of ``dlmie caption`` with one photograph; the cache cold or warm."""
    return {"dlmie_s": _captions()[cache]}


ROWS = {
    "compile_cold": partial(first_step, "cold"),
    "compile_warm": partial(first_step, "warm"),
    "first_caption_cold": partial(first_caption, "cold"),
    "first_caption_warm": partial(first_caption, "warm"),
}
