"""How fast several ranks are beside one, in turn on one machine.

    python -m benchmarks.ranks                  1 rank × 1 thread, 1 × 2 and 2 × 1
    python -m benchmarks.ranks 1x8 1x2 4x2      others: RANKSxTHREADS
    python -m benchmarks.ranks model            several machines, from steps measured on this one

Needs the extra ``[mpi]`` and an MPI.  All programs run at once, but only one of them computes at a
time, for a moment each; what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.text import format_table

if TYPE_CHECKING:
    from dlmie.captioning.step import CaptioningStep
    from dlmie.data.batches import Batch
    from dlmie.parallel import Shards

ROUNDS = 9
BATCH, TIME, WORDS, GRID = 64, 12, 2550, (1280, 7, 7)  # a step of the recipe for Flickr8k
IMAGES = 32  # of features and captions, for each rank

# Networks: seconds until a message arrives, bytes per second.
NETWORKS = {"1 Gb": (50e-6, 117e6), "10 Gb": (30e-6, 1.17e9), "100 Gb": (2e-6, 11.5e9)}
ADDED = 5e9  # bytes of gradients that a processor adds up in a second

WORKS = {
    "training": f"captions per second, a step of {BATCH} × {TIME} words",
    "features": f"images per second, EfficientNet-Lite0 to its head, {IMAGES} at a time",
    "captions": f"images per second, beam 3, {IMAGES} at a time",
}


def main(names: list[str]) -> None:
    """Measure, and print a table."""
    programs = {name: _start(*map(int, name.split("x"))) for name in names}
    rates: dict[tuple[str, str], list[float]] = {}
    try:
        for program in programs.values():
            _ask(program, "ready")
        for number in range(ROUNDS + 1):
            for work in WORKS:
                for name, program in programs.items():
                    rate = _ask(program, work)
                    if number:  # the first round compiles and warms up
                        rates.setdefault((work, name), []).append(rate)
    finally:
        for program in programs.values():
            program.kill()
    rows = []
    for work, what in WORKS.items():
        base = rates[work, names[0]]
        for name in names:
            found = rates[work, name]
            ratio = float(np.median(np.divide(found, base)))
            rows.append(
                (work, name, f"{np.median(found):.1f}", f"{max(found):.1f}", f"{ratio:.2f}")
            )
        sys.stdout.write(f"{work}: {what}\n")
    head = ("", "ranks x threads", "median", "best", f"beside {names[0]} (median of rounds)")
    sys.stdout.write(format_table(head, rows) + "\n")
    sys.stdout.write(f"load of the machine: {os.getloadavg()[0]:.1f} of {os.cpu_count()}\n")


def _start(ranks: int, threads: int) -> subprocess.Popen[str]:
    launcher = [] if ranks == 1 else ["mpiexec", "-n", str(ranks)]
    return subprocess.Popen(
        [*launcher, sys.executable, "-m", "benchmarks.ranks", "--program"],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(program: subprocess.Popen[str], work: str) -> float:
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{work}\n")
    program.stdin.flush()
    return float(json.loads(program.stdout.readline()))


def serve() -> None:
    """Do what rank 0 is asked to, with all ranks; idle ones sleep."""
    from dlmie.parallel import together, world

    ranks = world()
    with together(ranks):
        works = _works()
        while True:
            line = sys.stdin.readline() if ranks.is_first else ""
            if ranks.communicator is not None:
                arrived = ranks.communicator.Ibarrier()
                while not arrived.Test():
                    time.sleep(0.01)
            line = ranks.of_first(line).strip()
            if not line:
                return
            rate = 0.0
            if line in works:
                ranks.wait()
                start = time.perf_counter()
                count = works[line]()
                ranks.wait()
                rate = count / (time.perf_counter() - start)
            if ranks.is_first:
                sys.stdout.write(f"{json.dumps(rate)}\n")
                sys.stdout.flush()


def _works() -> dict[str, Callable[[], int]]:
    """Each does its work once, and gives how many captions or images that were."""
    from dlmie.captioning.captioner import ImageCaptioner, Member
    from dlmie.captioning.decoding import Decoding
    from dlmie.captioning.features import Encoder
    from dlmie.models import encoder
    from dlmie.parallel import Shards, world
    from dlmie.training.parallel import share_out

    ranks, rng = world(), np.random.default_rng(0)
    step = _step()
    shards = Shards.of_rank(ranks)
    share_out(step, shards, ranks)
    batch = _batch(BATCH, shards)
    network = Encoder(encoder("efficientnet-lite0"), "head")
    images = rng.integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    captioner = ImageCaptioner([Member(step.model, {}, Path("."), {})])
    annotations = rng.random((IMAGES, *GRID), "float32")
    decoding = Decoding(beam=3)

    def features() -> int:
        return len(network.pixels(images)) * ranks.size

    def captions() -> int:
        return len(captioner.decode([annotations], decoding)) * ranks.size

    return {
        "training": lambda: step(batch).examples,
        "features": features,
        "captions": captions,
    }


def _step() -> CaptioningStep:
    """A step of Show, Attend and Tell, as Flickr8k's recipe has it."""
    from dlmie import optim
    from dlmie.captioning.step import compile as compile_step
    from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
    from dlmie.models.captioners.show_attend_tell import ShowAttendTell
    from dlmie.models.recipes import recipe

    words = Vocabulary([*SPECIAL, *(f"word{i}" for i in range(WORDS - len(SPECIAL)))])
    model = ShowAttendTell(GRID, words, **recipe("show-attend-tell-flickr8k")["config"])
    chain = optim.chain(optim.clip_norm(5.0), optim.adam(4e-4), optim.ema(0.999))
    step = compile_step(model, chain)
    step.progress = False
    return step


def _batch(size: int, shards: Shards) -> Batch:
    """The rows of some shards of a batch of so many captions of ``TIME`` words."""
    from dlmie.data.batches import Batch
    from dlmie.data.captions.vocabulary import SPECIAL

    rng, rows = np.random.default_rng(0), shards.rows(size)
    tokens = rng.integers(len(SPECIAL), WORDS, (size, TIME + 1)).astype("int32")[rows]
    seen = rng.random((size, *GRID), "float32")[rows]
    return Batch(seen, tokens, rows, rows, np.zeros_like(rows), shards.sizes(size))


def model(machines: Sequence[int] = (4, 8, 16)) -> None:
    """Print what a step would take on several machines: a model.

    Measured are steps of a whole batch and of a machine's part of it.  The exchange of the
    gradients is that of Rabenseifner's algorithm: ``2 log₂ N`` messages, ``2 (N - 1)/N`` of all
    bytes sent, half as many added.
    """
    from dlmie.parallel import WHOLE

    step = _step()
    size = 4 * sum(p.get_value(borrow=True).size for p in step.parameters)  # bytes, float32
    batches = {n: _batch(BATCH // n, WHOLE) for n in (1, *machines)}
    seconds: dict[int, list[float]] = {n: [] for n in batches}
    for number in range(ROUNDS + 1):
        for n, batch in batches.items():
            start = time.perf_counter()
            step(batch)
            if number:
                seconds[n].append(time.perf_counter() - start)
    took = {n: min(found) for n, found in seconds.items()}  # what else runs only adds to it
    for n, found in took.items():
        sys.stdout.write(f"a step of {BATCH // n} captions: {1000 * found:.0f} ms\n")
    sys.stdout.write(f"gradients: {size / 1e6:.1f} MB\n")
    rows = []
    for name, (latency, rate) in NETWORKS.items():
        sent = {
            n: 2 * log2(n) * latency + (n - 1) / n * size * (2 / rate + 1 / ADDED) for n in took
        }
        grows = [n * took[1] / (took[1] + sent[n]) for n in machines]
        stays = [took[1] / (took[n] + sent[n]) for n in machines]
        exchange = " / ".join(f"{1000 * sent[n]:.0f}" for n in machines)
        times = (" / ".join(f"{x:.1f}" for x in found) for found in (grows, stays))
        rows.append((name, f"{exchange} ms", *times))
    count = " / ".join(map(str, machines))
    head = (f"{count} machines", "exchange", "batch grows: times as fast", f"batch stays {BATCH}")
    sys.stdout.write(format_table(head, rows) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--program"]:
        serve()
    elif sys.argv[1:] == ["model"]:
        model()
    else:
        main(sys.argv[1:] or ["1x1", "1x2", "2x1"])
