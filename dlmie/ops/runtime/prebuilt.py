"""Kernel libraries that an installation brings along, and the choice of the one to use.

A wheel holds the kernels compiled for one or more levels of a processor (x86-64-v2, v3, v4: SSE4,
AVX2, AVX-512), so that the first command need not compile them for a quarter of a minute.
``setup.py`` makes them.  They are used where they were made of the very sources that are installed
and this processor has the level; everywhere else the kernels are compiled at first use.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass, replace
from pathlib import Path

from dlmie.errors import CompilerError
from dlmie.ops.runtime.building import SUFFIX, compile_library, fingerprint, openblas
from dlmie.ops.runtime.processes import run

#: Where the libraries lie, with a manifest beside them.
FOLDER = Path(__file__).with_name("prebuilt")
MANIFEST = "manifest.json"
#: What is built: a list of levels, "native" (the best of this processor), "all" or "none".
VARIABLE = "DLMIE_PREBUILT"

# What /proc/cpuinfo calls the features of each level (x86-64 psABI, "micro-architecture levels").
_V2 = {"cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"}
_V3 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"} | _V2
_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} | _V3


@dataclass(frozen=True)
class Level:
    """A set of processors that one library serves; ``-march`` has its name."""

    name: str
    machine: str  # as platform.machine() says
    features: frozenset[str]

    @property
    def file(self) -> str:
        return f"libdlmie-{self.name}{SUFFIX}"


#: The best first.
LEVELS = (
    Level("x86-64-v4", "x86_64", frozenset(_V4)),
    Level("x86-64-v3", "x86_64", frozenset(_V3)),
    Level("x86-64-v2", "x86_64", frozenset(_V2)),
    Level("armv8-a", "aarch64", frozenset()),
)


def features() -> frozenset[str]:
    """What this processor and its system can do, in the words of /proc/cpuinfo."""
    return frozenset(processor().partition(":")[2].split())


def processor() -> str:
    """The line that tells processors apart for a compiler."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def usable() -> list[Level]:
    """The levels that this processor has, the best first."""
    if not sys.platform.startswith("linux"):
        return []
    here, machine = features(), platform.machine()
    return [level for level in LEVELS if level.machine == machine and level.features <= here]


def find(folder: Path = FOLDER) -> Path | None:
    """The best library of the installation for this processor; None where there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if manifest["sources"] != fingerprint():
            return None
        built = manifest["levels"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for level in usable():
        if level.name in built and (folder / level.file).is_file():
            return folder / level.file
    return None


def chosen() -> list[Level]:
    """The levels that ``DLMIE_PREBUILT`` asks for; by default the best of this processor.

    Raises
    ------
    ValueError
        It names a level that there is not.
    """
    asked = os.environ.get(VARIABLE, "native").replace(",", " ").split() or ["none"]
    machine = platform.machine()
    if asked == ["none"]:
        return []
    if asked == ["native"]:
        return usable()[:1]
    if asked == ["all"]:
        return [level for level in LEVELS if level.machine == machine]
    known = {level.name: level for level in LEVELS if level.machine == machine}
    wrong = [name for name in asked if name not in known]
    if wrong:
        choice = ", ".join([*known, "native, all or none"])
        raise ValueError(f"{VARIABLE}: {' '.join(wrong)} is none of {choice}")
    return [known[name] for name in asked]


def build(folder: Path, levels: list[Level]) -> None:
    """Compile the libraries of some levels, and their manifest, into an empty folder.

    They need scipy-openblas32 when they are loaded, wherever it then lies.

    Raises
    ------
    CompilerError
        No compiler, or none that builds them.
    """
    blas = openblas()
    if blas is None:
        raise CompilerError("scipy-openblas32 is not installed")
    # Loaded before these libraries, from where it is installed: no path of this machine in them.
    links = tuple(flag for flag in blas.link_flags if "rpath" not in flag)
    compiler = shlex.split(os.environ.get("CC") or "gcc")
    if shutil.which(compiler[0]) is None:
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    try:
        version = run([*compiler, "--version"]).stdout.partition("\n")[0]
    except OSError as error:
        raise CompilerError(f"no C compiler ({error})") from None
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for level in levels:
        compile_library(
            compiler,
            replace(blas, link_flags=(*links, "-Wl,--strip-debug")),
            folder / level.file,
            architecture=level.name,
        )
    manifest = {
        "sources": fingerprint(),
        "levels": [level.name for level in levels],
        "compiler": version,
        "blas": blas.name,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
