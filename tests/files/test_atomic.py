"""Every file is there whole or not at all, whatever the disk or another process does."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dlmie.errors import DataError
from dlmie.files import atomic

CHILD = """
import os, signal, sys
from dlmie.files import atomic
with atomic.replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def break_off(path: Path) -> None:
    with atomic.replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


def test_content_mode_and_folders(tmp_path: Path) -> None:
    path = atomic.write(tmp_path / "a" / "b" / "x.bin", b"one")
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()
    path.chmod(0o640)
    atomic.write(path, b"two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640  # as whoever owns it wanted
    assert os.listdir(path.parent) == ["x.bin"]


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    path = atomic.write(tmp_path / "x", b"earlier")
    with pytest.raises(KeyboardInterrupt):
        break_off(path)
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("unnamed", [True, False])
def test_the_same_where_files_without_names_are_not_known(
    unnamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not unnamed:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = atomic.write(tmp_path / ("ü" * 127), b"long name")  # 254 bytes: no room for a suffix
    assert path.read_bytes() == b"long name"
    with pytest.raises(KeyboardInterrupt):
        break_off(path)
    assert len(os.listdir(tmp_path)) == 1


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="files without names are Linux's")
def test_kill_leaves_nothing(tmp_path: Path) -> None:
    path = atomic.write(tmp_path / "x", b"earlier")
    done = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["x"]


def test_two_writers_do_not_share_a_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "x", [bytes([n]) * 100_000 for n in range(8)]
    writers = [threading.Thread(target=atomic.write, args=(path, c)) for c in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_bytes() in contents
    assert os.listdir(tmp_path) == ["x"]


def test_links_are_followed_and_devices_written(tmp_path: Path) -> None:
    target = atomic.write(tmp_path / "target", b"one")
    link = tmp_path / "link"
    link.symlink_to(target)
    atomic.write(link, b"two")
    assert link.is_symlink()
    assert target.read_bytes() == b"two"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    atomic.write(pipe, b"three")
    reader.join()
    assert read == [b"three"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "x was not written: the disk is full; free some space"),
        (errno.EDQUOT, "x was not written: the disk is full; free some space"),
        (errno.EROFS, "x was not written: Read-only file system"),
    ],
)
def test_errors_are_one_line(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(DataError) as caught:
        atomic.write(tmp_path / "x", b"content")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it is a folder"):
        atomic.write(tmp_path, b"")


def test_json_keeps_names_that_are_no_text(tmp_path: Path) -> None:
    import json

    name = os.fsdecode(b"caf\xe9.jpg")
    path = atomic.write_json(tmp_path / "x.json", {"image": name, "word": "Größe"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"image": name, "word": "Größe"}
    assert "Größe" in path.read_text(encoding="utf-8")
