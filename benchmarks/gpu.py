"""What JAX makes of dlmie's graphs on a device: whether the numbers are right, and how fast.

    python -m benchmarks.gpu            a GPU machine: a few minutes
    python -m benchmarks.gpu --tiny     small sizes, for a processor: only whether it works

Three things that people wait for: features of photographs, gradients of pictures, and the training
step of a captioner.  The numbers are compared with those of the C kernels, or where there is no C
compiler with JAX's on the processor.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt

from dlmie import models, optim
from dlmie.backends.choice import using_backend
from dlmie.captioning.step import compile as compile_step
from dlmie.compilation import function
from dlmie.data.captions.vocabulary import SPECIAL, Vocabulary
from dlmie.models.captioners.show_attend_tell import ShowAttendTell
from dlmie.ops.runtime.kernel_op import kernels_ready
from dlmie.text import format_table

SECONDS = 10.0  # timed of each row, after what compiles


@dataclass(frozen=True)
class Size:
    """How much a row computes.

    Attributes
    ----------
    pixels : int
        Sides of photographs.
    photographs : int
        Whose features are computed at once.
    pictures : int
        Whose gradients are.
    captions, words, vocabulary : int
        Captions of a training step, their length, and the words that there are.
    grid : (channels, rows, columns)
        What the captioner sees of an image.
    hidden : int
        Of its LSTM, its attention and its word vectors.
    """

    pixels: int = 224
    photographs: int = 64
    pictures: int = 8
    captions: int = 64
    words: int = 12
    vocabulary: int = 2550
    grid: tuple[int, int, int] = (1280, 7, 7)
    hidden: int = 512


TINY = Size(64, 2, 1, 4, 4, 50, (8, 3, 3), 16)


@dataclass(frozen=True)
class Work:
    """What is run again and again, and what is compared before that."""

    run: Callable[[], object]
    numbers: Callable[[], np.ndarray]


def features(size: Size) -> Work:
    """The last layer of EfficientNet-Lite0 of some photographs."""
    network = models.encoder("efficientnet-lite0", size=size.pixels)
    run = function([network.input], network["pool"])
    images = _images(size.photographs, size.pixels)
    return Work(lambda: run(images), lambda: run(images))


def gradients(size: Size) -> Work:
    """The gradient of the squares of VGG-16's last layer (random weights): a step of a dream."""
    network = models.encoder("vgg16", size=size.pixels, weights=None)
    value = (network["pool5"] ** 2).sum()
    run = function([network.input], pytensor.grad(value, network.input))
    images = _images(size.pictures, size.pixels)
    return Work(lambda: run(images), lambda: run(images))


def training(size: Size) -> Work:
    """Steps of Show, Attend and Tell with dropout, Adam and averages; how three move its output."""
    words = Vocabulary([*SPECIAL, *(f"word{i}" for i in range(size.vocabulary - len(SPECIAL)))])
    sizes = {"embedding": size.hidden, "hidden": size.hidden, "attention": size.hidden}
    model = ShowAttendTell(size.grid, words, dropout=0.5, **sizes)
    chain = optim.chain(optim.clip_norm(5.0), optim.adam(4e-4), optim.ema(0.999))
    step = compile_step(model, chain)
    step.progress = False
    rng = np.random.default_rng(0)
    shape = (size.captions, size.words + 1)
    batch = {
        "inputs": rng.random((size.captions, *size.grid), "float32"),
        "tokens": rng.integers(len(SPECIAL), size.vocabulary, shape).astype("int32"),
    }

    def moved() -> np.ndarray:
        before = model.output.W.get_value()
        for _ in range(3):
            step(batch)
        return model.output.W.get_value() - before

    return Work(lambda: step(batch), moved)


def _images(count: int, pixels: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 3, pixels, pixels)).astype("float32")


@dataclass(frozen=True)
class Row:
    """What was measured.

    Attributes
    ----------
    first_s : float
        Seconds to the first result: XLA compiles.
    per_second : float
        The median of how many things are done in a second.
    difference : float
        From the reference, relative to its largest number.
    """

    name: str
    first_s: float
    per_second: float
    difference: float


def measure(name: str, make: Callable[[], Work], things: int, seconds: float) -> Row:
    """The numbers of the reference and of JAX's device; then how long the device takes."""
    with _reference():
        wanted = make().numbers()
    with using_backend("jax"):
        start = time.perf_counter()
        work = make()
        found = work.numbers()
        first, took = time.perf_counter() - start, [float("inf")]
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(took) < 4:
            start = time.perf_counter()
            work.run()
            took.append(time.perf_counter() - start)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return Row(name, first, things / float(np.median(took[1:])), difference)


@functools.cache
def _c_works() -> bool:
    """Whether everything is there that the C kernels need; a GPU machine may lack headers."""
    x = pt.fvector()
    try:
        function([x], x + 1, backend="c")
    except Exception:  # of the compiler, or of what it makes
        return False
    return kernels_ready()


@contextlib.contextmanager
def _reference() -> Iterator[None]:
    """The C kernels, or JAX on the processor where nothing compiles C."""
    if _c_works():
        yield
    else:
        with using_backend("jax"), jax.default_device(jax.devices("cpu")[0]):
            yield


def main(arguments: list[str]) -> None:
    """Print a table, and the same as JSON."""
    tiny = "--tiny" in arguments
    size, seconds = (TINY, 0.2) if tiny else (Size(), SECONDS)
    device = jax.devices()[0]
    reference = "the C kernels" if _c_works() else "JAX on the processor"
    sys.stdout.write(f"{device.device_kind}, JAX {jax.__version__}; beside {reference}\n")
    rows = [
        measure("features, photographs", lambda: features(size), size.photographs, seconds),
        measure("gradients, pictures", lambda: gradients(size), size.pictures, seconds),
        measure("training, captions", lambda: training(size), size.captions, seconds),
    ]
    head = ("", "first result", "per second", "differs by")
    table = [
        (row.name, f"{row.first_s:.1f} s", f"{row.per_second:,.1f}", f"{row.difference:.1e}")
        for row in rows
    ]
    sys.stdout.write(format_table(head, table) + "\n")
    numbers = {row.name: vars(row) for row in rows}
    document = {"device": device.device_kind, "tiny": tiny, "rows": numbers}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
