"""How fast several ranks are beside one, in turn on one machine.

    python -m benchmarks.ranks                  1 rank × 1 thread, 1 × 2 and 2 × 1
    python -m benchmarks.ranks 1x8 1x2 4x2      others: RANKSxTHREADS
    python -m benchmarks.ranks model            several machines, from steps measured on this one

Needs the extra ``[mpi]`` and an MPI.  All programs run at once, but only one of them computes at a
time, for a moment each; what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlmie.errors import DlmieError
from dlmie.text import format_table

if TYPE_CHECKING:
    from dlmie.captioning.step import CaptioningStep
    from dlmie.data.batches import Batch
    from dlmie.parallel import Shards

ROUNDS = 9
BATCH, TIME, WORDS, GRID = 64, 12, 2550, (1280, 7, 7)  # a step of the recipe for Flickr8k
STEPS = 3  # of training, one after the other, in a measurement
IMAGES = 32  # of features and captions, for each rank

# A measurement during which other programs took more than this share of all processors is repeated.
QUIET, TRIES = 0.03, 4

# Networks: seconds until a message arrives, bytes per second.
NETWORKS = {"1 Gb": (50e-6, 117e6), "10 Gb": (30e-6, 1.17e9), "100 Gb": (2e-6, 11.5e9)}
ADDED = 5e9  # bytes of gradients that a processor adds up in a second

WORKS = {
    "training": f"captions per second, a step of {BATCH} × {TIME} words",
    "features": f"images per second, EfficientNet-Lite0 to its head, {IMAGES} at a time",
    "captions": f"images per second, beam 3, {IMAGES} at a time",
}


@dataclass(frozen=True)
class Measured:
    """What one request measured.

    Attributes
    ----------
    rate : float
        How many things a second.
    seconds : float
        Of each.
    others : float
        The share of the machine's processors that other programs took meanwhile.
    helped : float
        Processor time of whatever worked for the ranks, in seconds for each thing.
    sent : float
        Bytes for each thing, where they are counted.
    """

    rate: float
    seconds: float
    others: float
    helped: float = 0.0
    sent: float = 0.0


class Program:
    """Ranks that wait, asleep, and do what they are asked to: see :func:`serve`.

    Parameters
    ----------
    launcher : sequence of str
        What starts them; nothing: one process.
    threads : int
        Of each.
    environment : dict, optional
        Added to this process's.
    warm_up : str, optional
        Work that is done before each measurement.
    helper : callable, optional
        Processor time of whatever works for the ranks, in seconds since it started.
    sent : callable, optional
        How many bytes a rank has sent until now.
    """

    def __init__(
        self,
        launcher: Sequence[str],
        threads: int,
        environment: Mapping[str, str] | None = None,
        warm_up: str = "",
        helper: Callable[[], float] = float,
        sent: Callable[[], float] = float,
    ) -> None:
        self.warm_up, self.helper, self.sent = warm_up, helper, sent
        self.process = subprocess.Popen(
            [*launcher, sys.executable, "-m", "benchmarks.ranks", "--program"],
            env={**os.environ, **(environment or {}), "OMP_NUM_THREADS": str(threads)},
            cwd=Path(__file__).resolve().parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is this process's, which ends the others
        )

    def ask(self, work: str) -> Measured:
        """Let the ranks work, again where other programs disturb them; the quietest counts."""
        tries = [self._ask(work)]
        while tries[-1].others > QUIET and len(tries) < TRIES:
            tries.append(self._ask(work))
        return min(tries, key=lambda measured: measured.others)

    def _ask(self, work: str) -> Measured:
        if self.warm_up:
            self._answer(self.warm_up)
        sent = -self.sent()
        before = np.array([time.perf_counter(), _busy(), self.helper()])
        count, seconds, processor = self._answer(work)
        after = np.array([time.perf_counter(), _busy(), self.helper()])
        sent += self.sent()
        waited, busy, helped = map(float, after - before)
        others = max(0.0, busy - processor - helped) / waited / (os.cpu_count() or 1)
        return Measured(count / seconds, seconds / count, others, helped / count, sent / count)

    def _answer(self, work: str) -> tuple[float, float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{work}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise DlmieError(f"the ranks ended before they answered {work!r}: see above")
        count, seconds, processor = json.loads(answer)
        return count, seconds, processor

    def end(self) -> None:
        """Ask the ranks to end; those that are busy are told to, and killed at last."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if number is not None:
                    self.process.send_signal(number)
                self.process.wait(timeout=5)
                break
        self.process.wait()
        self.process.stdout.close()


def _busy(path: Path = Path("/proc/stat")) -> float:
    """Seconds that programs have run since the machine started, on all processors together.

    0 where that cannot be told: not on Linux.
    """
    if not path.exists():
        return 0.0
    user, nice, system = path.read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def main(names: list[str]) -> None:
    """Measure, and print a table."""
    found: dict[tuple[str, str], list[Measured]] = {}
    with contextlib.ExitStack() as stack:
        programs = {name: _start(*map(int, name.split("x"))) for name in names}
        for program in programs.values():
            stack.callback(program.end)
        for number in range(ROUNDS + 1):
            for work in WORKS:
                for name, program in programs.items():
                    measured = program.ask(work)
                    if number:  # the first round compiles and warms up
                        found.setdefault((work, name), []).append(measured)
    rows = []
    for work, what in WORKS.items():
        base = [m.rate for m in found[work, names[0]]]
        for name in names:
            rates = [m.rate for m in found[work, name]]
            ratio = float(np.median(np.divide(rates, base)))
            rows.append(
                (work, name, f"{np.median(rates):.1f}", f"{max(rates):.1f}", f"{ratio:.2f}")
            )
        sys.stdout.write(f"{work}: {what}\n")
    head = ("", "ranks x threads", "median", "best", f"beside {names[0]} (median of rounds)")
    sys.stdout.write(format_table(head, rows) + "\n")
    sys.stdout.write(told_of_others([m for all_ in found.values() for m in all_]) + "\n")


def told_of_others(measured: Sequence[Measured]) -> str:
    """One line: how much other programs disturbed."""
    quiet = sum(m.others <= QUIET for m in measured)
    most = max(m.others for m in measured)
    return (
        f"other programs took at most {QUIET:.0%} of the {os.cpu_count()} processors during "
        f"{quiet} of {len(measured)} measurements, and {most:.0%} at most"
    )


def _start(ranks: int, threads: int) -> Program:
    return Program([] if ranks == 1 else ["mpiexec", "-n", str(ranks)], threads)


def serve() -> None:
    """Do what rank 0 is asked to, with all ranks; idle ones sleep.

    The answer is [how many things, seconds, processor time of all ranks].
    """
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
            name, _, option = ranks.of_first(line).strip().partition(" ")
            if not name:
                return
            ranks.wait()
            start, before = time.perf_counter(), time.process_time()
            count = works[name](*map(int, option.split()))
            ranks.wait()
            seconds, processor = time.perf_counter() - start, time.process_time() - before
            processors = ranks.everyone(processor)
            if ranks.is_first:
                sys.stdout.write(f"{json.dumps([count, seconds, sum(processors)])}\n")
                sys.stdout.flush()


def _works() -> dict[str, Callable[..., int]]:
    """Each does its work once, and gives how many captions, images or exchanges that were."""
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
    batch = functools.cache(lambda size: _batch(size, shards))
    gradients = np.ones(gradient_bytes(step) // 4, "float32")
    network = Encoder(encoder("efficientnet-lite0"), "head")
    images = rng.integers(0, 256, (IMAGES, 224, 224, 3), dtype=np.uint8)
    captioner = ImageCaptioner([Member(step.model, {}, Path("."), {})])
    annotations = rng.random((IMAGES, *GRID), "float32")
    decoding = Decoding(beam=3)

    def training(size: int = BATCH) -> int:
        made = batch(size)
        return sum(step(made).examples for _ in range(STEPS))

    def exchange(count: int = 1) -> int:
        for _ in range(count):
            gradients[:] = 1
            ranks.wait()
            ranks.add(gradients)
        return count

    def features() -> int:
        return len(network.pixels(images)) * ranks.size

    def captions() -> int:
        return len(captioner.decode([annotations], decoding)) * ranks.size

    return {
        "training": training,
        "exchange": exchange,
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


def gradient_bytes(step: CaptioningStep | None = None) -> int:
    """Bytes of the gradients of a step, by default that which is measured."""
    step = _step() if step is None else step
    return 4 * sum(p.get_value(borrow=True).size for p in step.parameters)  # float32


def _batch(size: int, shards: Shards) -> Batch:
    """The rows of some shards of a batch of so many captions of ``TIME`` words."""
    from dlmie.data.batches import Batch
    from dlmie.data.captions.vocabulary import SPECIAL

    rng, rows = np.random.default_rng(0), shards.rows(size)
    tokens = rng.integers(len(SPECIAL), WORDS, (size, TIME + 1)).astype("int32")[rows]
    seen = rng.random((size, *GRID), "float32")[rows]
    return Batch(seen, tokens, rows, rows, np.zeros_like(rows), shards.sizes(size))


def exchange_seconds(machines: int, size: int, latency: float, rate: float) -> float:
    """What an exchange of gradients takes by Rabenseifner's algorithm: a model.

    ``2 log₂ N`` messages, ``2 (N - 1)/N`` of all bytes sent, half as many added.

    Parameters
    ----------
    machines : int
    size : int
        Bytes of all gradients.
    latency : float
        Seconds until a message arrives.
    rate : float
        Bytes per second.
    """
    part = (machines - 1) / machines * size
    return 2 * log2(machines) * latency + part * (2 / rate + 1 / ADDED)


def model(machines: Sequence[int] = (4, 8, 16)) -> None:
    """Print what a step would take on several machines: a model.

    Measured are steps of a whole batch and of a machine's part of it; the exchange is that of
    :func:`exchange_seconds`.
    """
    found: dict[int, list[Measured]] = {n: [] for n in (1, *machines)}
    program = _start(1, 1)
    try:
        for number in range(ROUNDS + 1):
            for n in found:
                measured = program.ask(f"training {BATCH // n}")
                if number:  # the first round compiles and warms up
                    found[n].append(measured)
    finally:
        program.end()
    size = gradient_bytes()
    took = {
        n: BATCH // n * float(np.median([m.seconds for m in all_])) for n, all_ in found.items()
    }
    for n, seconds in took.items():
        sys.stdout.write(f"a step of {BATCH // n} captions: {1000 * seconds:.0f} ms\n")
    sys.stdout.write(f"gradients: {size / 1e6:.1f} MB\n")
    rows = []
    for name, (latency, rate) in NETWORKS.items():
        sent = {n: exchange_seconds(n, size, latency, rate) for n in took}
        grows = [n * took[1] / (took[1] + sent[n]) for n in machines]
        stays = [took[1] / (took[n] + sent[n]) for n in machines]
        exchange = " / ".join(f"{1000 * sent[n]:.0f}" for n in machines)
        times = (" / ".join(f"{x:.1f}" for x in faster) for faster in (grows, stays))
        rows.append((name, f"{exchange} ms", *times))
    count = " / ".join(map(str, machines))
    head = (f"{count} machines", "exchange", "batch grows: times as fast", f"batch stays {BATCH}")
    sys.stdout.write(format_table(head, rows) + "\n")
    sys.stdout.write(told_of_others([m for all_ in found.values() for m in all_]) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["--program"]:
        serve()
    elif sys.argv[1:] == ["model"]:
        model()
    else:
        main(sys.argv[1:] or ["1x1", "1x2", "2x1"])
