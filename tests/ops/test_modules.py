"""Generated modules: compiled together, with a precompiled header, and found again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytensor
import pytest
from pytensor.link.c.exceptions import CompileError

from dlmie import compilation
from dlmie.ops.runtime import headers, library, modules

GRAPH = """
import json, os, sys
import numpy as np, pytensor, pytensor.tensor as pt
import dlmie
from dlmie.ops.runtime import headers, modules
compiledir = pytensor.config.compiledir
names = lambda: sorted(n for n in os.listdir(compiledir) if n.startswith("tmp"))
x = pt.fmatrix("x")
outputs = [pt.exp(x) * x + 1, x.sum(), (x**2).mean(axis=0), pt.cumsum(x), x[1:], x % 2, x.T]
outputs += [x.reshape((-1,)) % 3]
value = np.arange(6, dtype="f").reshape(3, 2)
"""

SEVERAL = """
answers = dlmie.function([x], outputs)(value)
dlmies, flags = names(), pytensor.config.gcc__cxxflags
own = pytensor.function([x], outputs[:2], mode=pytensor.compile.mode.Mode("cvm", "fast_run"))
same = all(np.array_equal(a, b) for a, b in zip(answers[:2], own(value), strict=True))
print(json.dumps([headers.in_use(), dlmies, flags, same, isinstance(own.maker.linker,
    modules.Linker), len(names())]))
"""

BROKEN = """
modules._unit = lambda units: "#error a unit that does not compile"
print(json.dumps([float(dlmie.function([x], outputs[1:3])(value)[0]), len(names())]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the kernels and nothing else."""
    base = tmp_path_factory.mktemp("modules")
    where = [sys.executable, "-c", "import pytensor; print(pytensor.config.compiledir)"]
    compiledir = subprocess.run(
        where, env=environment(base), capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copy(library.build(), compiledir)
    return base


def environment(base: Path) -> dict[str, str]:
    return {**os.environ, "PYTENSOR_FLAGS": f"base_compiledir={base}"}


def run(script: str, base: Path) -> Any:
    result = subprocess.run(
        [sys.executable, "-c", GRAPH + script],
        env=environment(base),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_modules_are_compiled_together_and_found_again(folder: Path) -> None:
    in_use, names, flags, same, linker, with_users = run(SEVERAL, folder)
    assert in_use, "the compiler does not take the precompiled header"
    assert len(names) > 6
    (compiledir,) = folder.glob("compiledir_*")
    files = [file for name in names for file in (compiledir / name).glob("m*.so")]
    assert len(files) == len(names)
    assert len({file.stat().st_ino for file in files}) <= (os.cpu_count() or 1)
    assert all((compiledir / name / "key.pkl").exists() for name in names)
    # What is the user's is compiled as before, apart from dlmie's, and computes the same bits.
    assert (flags, same, linker) == ("", True, False)
    assert with_users > len(names)
    everything = sorted(path.name for path in compiledir.glob("tmp*"))
    again = run(SEVERAL, folder)
    assert again == [True, everything, flags, same, linker, len(everything)]


def test_what_does_not_compile_together_is_left_to_pytensor(folder: Path, tmp_path: Path) -> None:
    (compiledir,) = folder.glob("compiledir_*")
    copy = tmp_path / compiledir.name
    copy.mkdir()
    shutil.copy(library.build(), copy)
    answer, compiled = run(BROKEN, tmp_path)
    assert answer == 15
    assert compiled >= 2


def test_a_header_that_is_refused_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []
    monkeypatch.setattr(headers, "_taken", lambda *_: tries.append(1))
    assert headers._precompiled(tmp_path) is None
    assert headers._precompiled(tmp_path) is None
    assert len(tries) == 1


def test_a_header_whose_parts_have_changed_is_compiled_again(tmp_path: Path) -> None:
    header, part = tmp_path / "modules.h", tmp_path / "part.h"
    part.write_text("#define A 1\n")
    assert not headers._current(header)
    headers._stamp(header).write_text(headers._dated(str(part)))
    headers._compiled(header).touch()
    assert headers._current(header)
    part.write_text("#define A 10\n")
    assert not headers._current(header)
    part.unlink()
    assert not headers._current(header)


def test_without_the_header_if_a_module_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "_given_up", False)
    monkeypatch.setattr(headers, "_header", lambda *_: Path(__file__))
    monkeypatch.setattr(headers, "_compiled", lambda header: header)
    seen = []

    def compile() -> str:
        seen.append(pytensor.config.gcc__cxxflags)
        if "-include" in seen[-1]:
            raise CompileError("no")
        return "compiled"

    assert compilation._patiently(compile) == "compiled"
    assert len(seen) == 2
    with pytest.raises(CompileError):
        compilation._patiently(lambda: (_ for _ in ()).throw(CompileError("neither")))


def test_macros_end_with_their_module() -> None:
    mark = modules._MARK
    sources = [
        f"#include <math.h>\n{mark}#define LIMIT {n}\nint f() {{ return LIMIT; }}" for n in "12"
    ]
    unit = modules._unit(
        [modules._Module(f"m{i}", "", None, s, None) for i, s in enumerate(sources)]
    )
    assert unit.count("#undef LIMIT\n") == 2
    assert unit.count("#include <math.h>") == 1
    assert modules._can_share(sources[0])
    assert not modules._can_share(f"{mark}#include <other.h>\n")
    assert not modules._can_share("int main;")


def test_what_another_process_compiles_is_waited_for(capfd: pytest.CaptureFixture[str]) -> None:
    theirs, ours = (modules._Module("", name, None, "", None) for name in ("theirs", "ours"))
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with modules._claim(theirs, 0):
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with modules._claims([theirs, ours]) as mine:
        assert mine == [ours]
    threading.Timer(1.3, done.set).start()
    modules._wait_for([theirs])
    assert done.is_set()
    thread.join()
    assert "waiting for another process" in capfd.readouterr().err
