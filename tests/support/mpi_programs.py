"""Programs of several ranks, started as users start them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent


def need_mpich() -> str:
    """MPICH's mpiexec; skips the test where it or mpi4py is missing."""
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install -e '.[mpi]' mpich")
    found = shutil.which("mpiexec", path=os.pathsep.join([str(BIN), os.environ["PATH"]]))
    if found is None:
        pytest.skip("needs mpiexec: pip install mpich")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if "HYDRA" not in said.stdout:
        pytest.skip(f"{found} is not MPICH's, whose signals and messages these tests know")
    return found


def command(ranks: int, *words: object) -> list[str]:
    """``mpiexec -n RANKS python WORDS``; without mpiexec for one rank."""
    python = [sys.executable, *map(str, words)]
    return python if ranks == 1 else [need_mpich(), "-n", str(ranks), *python]


def start(ranks: int, *words: object, cwd: Path) -> subprocess.Popen[str]:
    """Start a program; each rank has one thread."""
    need_mpich()
    return subprocess.Popen(
        command(ranks, *words),
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(ranks: int, *words: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, which must have this exit code."""
    with start(ranks, *words, cwd=cwd) as process:
        out, err = process.communicate()
    assert process.returncode == code, out + err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def dlmie(ranks: int, *words: object, cwd: Path, code: int = 0) -> Any:
    """Run a command of dlmie: see `run`."""
    return run(ranks, "-m", "dlmie", *words, cwd=cwd, code=code)


def process_of_rank(rank: int, word: str) -> int:
    """The process of a running rank whose command line has a word."""
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in words and f"PMI_RANK={rank}".encode() in environment:
            return int(folder.name)
    raise LookupError(f"no process of rank {rank}")


def wait_for(happened: Any, process: subprocess.Popen[str]) -> None:
    """Wait until something has happened, while a program runs."""
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
