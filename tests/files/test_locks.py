"""Locks: the second process is told who holds it; renamed and deleted files lock nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlmie.errors import DataError
from dlmie.files import locks

HOLDER = """
import sys
from pathlib import Path
from dlmie.files.locks import locked
with locked(Path(sys.argv[1]), "x.h5"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        who = rf" \(process {holder.pid}\)" if sys.platform == "linux" else ""
        with pytest.raises(DataError, match=f"^x.h5: another process is writing this file{who}$"):
            locks.acquire(path, "x.h5")
        holder.stdin.close()
        assert holder.wait() == 0
    with locks.locked(path, "x.h5"):  # it ended with its process
        pass


@pytest.mark.parametrize("change", ["renamed", "deleted", "replaced"])
def test_a_file_that_went_away_in_between_is_not_what_is_locked(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.part"
    flock, calls = locks.fcntl.flock, []

    def finished_meanwhile(descriptor: int, operation: int) -> None:
        if not calls:  # between opening and locking, the other process finishes
            if change == "renamed":
                path.rename(tmp_path / "x")
            elif change == "deleted":
                path.unlink()
            else:
                (tmp_path / "new").touch()
                os.replace(tmp_path / "new", path)
        calls.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", finished_meanwhile)
    descriptor = locks.acquire(path, path)
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)
