"""The shared library of C kernels: the installation's, or built once per source and compiler."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import struct
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlmie.errors import CompilerError
from dlmie.files.atomic import finish
from dlmie.ops.runtime import prebuilt
from dlmie.ops.runtime.building import (
    NO_BLAS,
    SUFFIX,
    Blas,
    compile_library,
    fingerprint,
    openblas,
    user_flags,
)
from dlmie.ops.runtime.cache import cache_folder, compile_lock, say_healed
from dlmie.ops.runtime.processes import run
from dlmie.verbosity import announcing

#: A list of one value, in which PyTensor stores a variable.
Cell = list[Any]


@functools.cache
def find_blas() -> Blas:
    """The user's BLAS if PyTensor is configured with one (or finds MKL), else scipy-openblas32."""
    from pytensor.configdefaults import config

    with warnings.catch_warnings():  # PyTensor's advice to install conda: ours is at hand
        warnings.simplefilter("ignore")
        flags = config.blas__ldflags
    if flags:
        return Blas("configured", ("-DDLMIE_BLAS",), tuple(shlex.split(flags)))
    return openblas() or NO_BLAS


@functools.cache
def find_compiler() -> list[str]:
    """The command that compiles C: $CC, or PyTensor's C++ compiler told to read C."""
    from pytensor.configdefaults import config

    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    if config.cxx:
        return [*shlex.split(config.cxx), "-x", "c"]
    raise CompilerError(NO_COMPILER)


NO_COMPILER = (
    "no C/C++ compiler found, and dlmie compiles its graphs to C: "
    "install one (Debian/Ubuntu: apt install g++ python3-dev; Fedora: dnf install gcc-c++ "
    "python3-devel; macOS: xcode-select --install; conda: conda install gxx), "
    "then check with: dlmie doctor"
)


FIRST_TIME = (
    "compiling for this machine: a minute or two, this once; later runs start at once "
    "(dlmie doctor --warm compiles ahead)\n"
)


def _compiler_identity(compiler: list[str]) -> str:
    # With the processor: -march=native code must not reach another machine by a shared home.
    version = run([*compiler, "--version"]).stdout.partition("\n")[0]
    return f"{compiler} {version} {platform.machine()} {prebuilt.processor()}"


def _user_configured() -> bool:
    """Whether the user says how the kernels are compiled, or to which BLAS they are linked."""
    if os.environ.get("CC") or user_flags():
        return True
    if "blas__ldflags" in os.environ.get("PYTENSOR_FLAGS", ""):
        return True
    return any("ldflags" in path.read_text(errors="replace") for path in pytensor_settings())


def pytensor_settings() -> list[Path]:
    """The files with the user's settings of PyTensor, as it finds them itself."""
    places = os.environ.get("PYTENSORRC", "~/.pytensorrc").split(os.pathsep)
    return [path for path in map(Path, map(os.path.expanduser, places)) if path.is_file()]


@functools.cache
def installed() -> Path | None:
    """The library that came with the installation; None where kernels are compiled here.

    They are where the user says how, and where none was brought along that this machine can load.
    """
    path = None if _user_configured() or openblas() is None else prebuilt.find()
    if path is None:
        return None
    try:
        _opened(path)
    except OSError as error:
        sys.stderr.write(f"dlmie: {path} cannot be loaded ({error}): using kernels compiled here\n")
        return None
    return path


@functools.cache
def build() -> Path:
    """Path of the shared library of kernels: the installation's, or one that is compiled here.

    What is compiled is kept in the cache.
    """
    return installed() or compiled()


def is_prebuilt() -> bool:
    """Whether the library is one of the installation's."""
    return installed() is not None


def blas_in_use() -> Blas:
    """The BLAS that the library is linked to."""
    return (openblas() or NO_BLAS) if is_prebuilt() else find_blas()


def compiled() -> Path:
    """Compile the kernels for this very processor unless the cache has them."""
    compiler, blas = find_compiler(), find_blas()
    parts = (user_flags(), blas, _compiler_identity(compiler))
    identity = hashlib.sha256(f"{fingerprint()} {parts}".encode()).hexdigest()
    target = cache_folder() / f"libdlmie_{identity[:16]}{SUFFIX}"
    if not target.exists():
        with compile_lock():
            if not target.exists():  # another process may have built it while we waited
                if announcing.get():
                    sys.stderr.write(FIRST_TIME)
                with tempfile.TemporaryDirectory(dir=target.parent, prefix="dlmie_") as folder:
                    library = Path(folder, target.name)
                    compile_library(compiler, blas, library)
                    finish(library, target)
    return target


@functools.cache
def load() -> ctypes.CDLL:
    """The kernel library, built first if need be, with its own BLAS threads switched off."""
    path = build()
    try:
        library = _opened(path)
    except OSError as error:  # cut off by a power cut, or linked to a BLAS that has gone
        build.cache_clear()
        with contextlib.suppress(OSError):
            path.unlink()
        say_healed(path, error)
        library = _opened(build())
    _silence_blas_threads(library)
    return library


def loaded() -> ctypes.CDLL | None:
    """The kernel library, where it has been loaded: for what works in NumPy as well."""
    return load() if load.cache_info().currsize else None


def _opened(path: Path) -> ctypes.CDLL:
    # OpenMP's threads spin for milliseconds while they wait unless told otherwise: on a machine
    # that does anything else, that costs several times what waking them does.  If they sleep at
    # once, waking them costs what two threads gain where the work is short, as in a step of an
    # LSTM; 2,000 spins, some 50 microseconds, are enough.  Read once, when a library loads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    if path.parent == prebuilt.FOLDER:  # it asks for OpenBLAS by name, not by place
        import scipy_openblas32

        folder, name = scipy_openblas32.get_lib_dir(), scipy_openblas32.get_library()
        ctypes.CDLL(str(Path(folder, f"lib{name}{SUFFIX}")))
    return ctypes.CDLL(str(path))


def _silence_blas_threads(library: ctypes.CDLL) -> None:
    # gemm.c divides the work among OpenMP threads and calls BLAS from each.
    for name in (
        "scipy_openblas_set_num_threads",
        "openblas_set_num_threads",
        "MKL_Set_Num_Threads",
        "bli_thread_set_num_threads",
    ):
        setter = getattr(library, name, None)
        if setter is not None:
            setter(1)
            return


def reads_half() -> bool:
    """Whether kernels read weights in half precision as fast as others: ``half.h``."""
    return bool(load().dlmie_reads_half())


def _address(symbol: str) -> int:
    return ctypes.cast(getattr(load(), symbol), ctypes.c_void_p).value or 0


def packed(symbols: Sequence[str], numbers: Sequence[int]) -> bytes:
    """Addresses of functions and then numbers, as int64: what the call of a kernel is handed."""
    values = [*map(_address, symbols), *numbers]
    return struct.pack(f"={len(values)}q", *values)


def handed(inputs: Sequence[Cell], outputs: Sequence[Cell], facts: bytes) -> list[Cell]:
    """What the module that calls kernels is handed: cells, facts (`packed`), and no result's."""
    return [[(*inputs, *outputs)], [facts], [None]]


def set_threads(threads: int) -> None:
    """Use this many threads in every kernel and matrix product from now on."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    load().dlmie_set_threads(threads)


def get_threads() -> int:
    """The number of threads that kernels use."""
    return int(load().dlmie_get_threads())
