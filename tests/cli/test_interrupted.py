"""``dlmie caption`` on 300 photographs, stopped at random moments: nothing is lost or different."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

PHOTOGRAPHS = 300
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 photographs of noise, and two files among them that cannot be read."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(PHOTOGRAPHS):
        pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    (folder / "100-bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "200-bad.jpg").write_bytes(b"")
    return folder


def command(run: Path, photos: Path, to: Path) -> list[str]:
    words = ("caption", run, photos, "--output", to, "--n-best", 2, "--batch", 4)
    return [sys.executable, "-m", "dlmie", *map(str, words)]


def uninterrupted(run: Path, photos: Path, name: str, folder: Path) -> bytes:
    path = folder / "whole" / name
    done = subprocess.run(command(run, photos, path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [each.name for each in path.parent.iterdir()] == [name]
    return path.read_bytes()


def check_part(part: Path, enough: int) -> None:
    """What an interrupted command left: a JSON list that can be read, of as many as there were."""
    if part.exists() and part.name.endswith(".json.part") and part.stat().st_size:
        assert len(json.loads(part.read_text(encoding="utf-8"))) >= enough


@pytest.mark.parametrize("name", ["c.csv", "c.json", "c.txt"])
def test_stopped_by_signals(name: str, run: Path, photos: Path, tmp_path: Path) -> None:
    whole = uninterrupted(run, photos, name, tmp_path)
    path, rng = tmp_path / name, random.Random(name)
    part = path.with_name(f"{name}.part")
    for ending in rng.sample(ENDINGS, len(ENDINGS)) * 2:
        if path.exists():
            break
        left = part.stat().st_size if part.exists() else 0
        more = rng.randrange(len(whole) // 6)
        process = subprocess.Popen(
            command(run, photos, path), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        while process.poll() is None and not (part.exists() and part.stat().st_size >= left + more):
            time.sleep(0.002)
        time.sleep(rng.random() / 50)
        process.send_signal(ending)
        _, said = process.communicate(timeout=120)
        if path.exists():  # it was ready before the signal came
            assert path.read_bytes() == whole
            break
        assert process.returncode != 0
        assert "Traceback" not in said
        assert part.stat().st_size >= left
        check_part(part, 1 if ending != signal.SIGKILL else 0)
        if ending != signal.SIGKILL:
            assert "the same command continues from there" in said
    finished = subprocess.run(command(run, photos, path), capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert path.read_bytes() == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([name, "whole"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to mount a small disk, which this user may not")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["c.csv", "c.json", "c.txt"])
def test_stopped_by_a_full_disk(name: str, run: Path, photos: Path, small_disk: Path) -> None:
    whole = uninterrupted(run, photos, name, small_disk.parent)
    path, rng = small_disk / name, random.Random(name)
    part, filler = path.with_name(f"{name}.part"), small_disk / "filler"
    pages = len(whole) // 4096 + 2
    for free in sorted(rng.sample(range(pages), 3)):
        filler.write_bytes(b"")
        left = part.stat().st_size if part.exists() else 0
        with filler.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(max(0, file.tell() - free * 4096))
        done = subprocess.run(
            command(run, photos, path), capture_output=True, text=True, check=False
        )
        if path.exists():
            break
        assert done.returncode == 1
        assert "the disk is full" in done.stderr.splitlines()[-1]
        assert not part.exists() or part.stat().st_size >= left
        check_part(part, 0)
    filler.unlink()
    finished = subprocess.run(command(run, photos, path), capture_output=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert path.read_bytes() == whole
    assert [each.name for each in small_disk.iterdir()] == [name]
