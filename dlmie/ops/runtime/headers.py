"""A precompiled header for the modules that PyTensor generates: half of the compiler's work.

Every module includes the same headers, of Python, of NumPy and of the C++ library, and most modules
are small: parsing these headers again and again, and writing debugging symbols for them, takes
longer than the modules themselves.  Here they are compiled once into PyTensor's cache folder, and
``gcc__cxxflags`` tells PyTensor's own command of it while dlmie compiles.  Nothing that decides a
result changes: optimization and architecture stay PyTensor's.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import sys
import tempfile
from pathlib import Path

import numpy
import pytensor

from dlmie.ops.runtime.cache import compile_lock
from dlmie.ops.runtime.processes import run

# What the modules of PyTensor 3 include, its own helper among it.  One more or less does no harm.
HEADERS = """\
#include <Python.h>
#include "pytensor_mod_helper.h"
#include <math.h>
#include <stdint.h>
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>
#include <numpy/npy_math.h>
#include <vector>
#include <algorithm>
"""

# Smallest module that shows whether the compiler takes the header.
_PROBE = HEADERS + "std::vector<PyArrayObject *> probe;\n"

# Debugging symbols of generated code tell nobody anything.  After PyTensor's -g: the last counts.
_NO_SYMBOLS = "-g0"

# CLinker.compile_args without the compiler's own.  Should PyTensor's differ one day, the compiler
# reads the text of the header: slower, and as correct.
_LINKER_ARGUMENTS = ["-O3", "-fno-math-errno"]

_given_up = False


def flags() -> str:
    """``gcc__cxxflags`` for generated modules: the user's, and the precompiled header.

    The user's alone where the compiler does not take it, and after ``give_up``.
    """
    users = str(pytensor.config.gcc__cxxflags)
    header = None if _given_up else _header(str(pytensor.config.compiledir), users)
    if header is None or not _compiled(header).exists():
        return users
    return f"{users} {_NO_SYMBOLS} -include {header}".strip()


def in_use() -> bool:
    """Whether modules are compiled with the precompiled header."""
    return flags() != str(pytensor.config.gcc__cxxflags)


def give_up() -> None:
    """From now on in this process plain PyTensor: a module does not compile with the header."""
    global _given_up
    _given_up = True


@functools.cache
def _header(folder: str, users: str) -> Path | None:
    """The header in this cache folder, compiled now if need be; None where that fails."""
    if sys.platform == "win32" or " " in folder:  # PyTensor splits flags at spaces, quoted or not
        return None
    try:
        return _precompiled(Path(folder))
    except OSError:
        return None


def _precompiled(folder: Path) -> Path | None:
    command = _command()
    compiler = run([command[0], "--version"]).stdout
    versions = [compiler, sys.version, numpy.__version__, pytensor.__version__]
    # Without the folders of headers: PyTensor shares modules between environments, and this name
    # becomes part of what it knows them by.
    options = [part for part in command if not part.startswith("-I")]
    digest = hashlib.sha256("\0".join([*options, *versions, HEADERS, _PROBE]).encode()).hexdigest()
    header = folder / f"dlmie_headers_{digest[:16]}" / "modules.h"
    if not _current(header):
        with compile_lock():
            if not _current(header):  # another process may have made it while we waited
                _compile(command, header)
    return header if _stamp(header).read_text() else None


def _compiled(header: Path) -> Path:
    return header.with_name("modules.h.gch")  # clang looks for this name, too


def _stamp(header: Path) -> Path:
    """Lists what was compiled, with sizes and dates; empty if the compiler does not take it."""
    return header.with_name("modules.stamp")


def _command() -> list[str]:
    """PyTensor's command for a module, up to the names of files."""
    from pytensor.link.c.cmodule import GCC_compiler, std_include_dirs

    arguments = [a for a in GCC_compiler.compile_args() if a != "-ld64"]  # that is the linker's
    folders = [f"-I{folder}" for folder in std_include_dirs()]
    compiler = shlex.split(pytensor.config.cxx)
    return [
        *(*compiler, "-g", *_LINKER_ARGUMENTS, *arguments, _NO_SYMBOLS),
        *(*folders, "-fvisibility=hidden"),
    ]


def _current(header: Path) -> bool:
    """Whether this was tried before, and every file is as it was then.

    No compiler looks at that without being asked, or else it refuses the module altogether.
    """
    try:
        listing = _stamp(header).read_text()
        return not listing or (_compiled(header).exists() and listing == _dated(listing))
    except OSError:
        return False


def _dated(listing: str) -> str:
    """Paths, a line each, with the sizes and dates that the files have today."""
    paths = [line.partition("\t")[0] for line in listing.splitlines()]
    found = [(path, os.stat(path)) for path in paths]
    return "".join(f"{path}\t{s.st_size}\t{s.st_mtime_ns}\n" for path, s in found)


def _compile(command: list[str], header: Path) -> None:
    header.parent.mkdir(exist_ok=True)
    if not header.exists():  # written once: clang remembers its date
        header.write_text(HEADERS)
    with tempfile.TemporaryDirectory(dir=header.parent) as folder:
        built, rule = Path(folder, "modules.h.gch"), Path(folder, "modules.d")
        files = ["-x", "c++-header", str(header), "-o", str(built), "-MD", "-MF", str(rule)]
        listing = ""
        if run([*command, *files]).returncode == 0:
            os.replace(built, _compiled(header))
            if _taken(command, header, Path(folder)):
                listing = _dated("\n".join(_dependencies(rule.read_text())))
        stamp = Path(folder, "modules.stamp")
        stamp.write_text(listing)
        os.replace(stamp, _stamp(header))


def _taken(command: list[str], header: Path, folder: Path) -> bool:
    """Whether the compiler uses the header in a module, rather than read its text."""
    source = folder / "probe.cpp"
    source.write_text(_PROBE)
    files = ["-c", str(source), "-o", str(folder / "probe.o")]
    result = run([*command, "-Winvalid-pch", "-include", str(header), *files])
    return result.returncode == 0 and ".gch" not in result.stderr


def _dependencies(rule: str) -> list[str]:
    """The files of a make rule."""
    return rule.partition(": ")[2].replace("\\\n", " ").split()
