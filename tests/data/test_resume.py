"""Preparing survives kill -9, full disks and damaged leftovers, and never renames half a file."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from dlmie.data import prepared
from dlmie.data.captions.dataset import Captions, Record, write_captions
from dlmie.data.captions.writing import slots, text, writer
from dlmie.errors import DataError
from dlmie.files import hdf5

COUNT = 500

# What the child processes run: rendered images, slow enough to be killed on the way.
CHILD = f"""
import sys, time
import numpy as np
from dlmie.data.captions.writing import writer
from dlmie.data.captions.dataset import Record, write_captions

writer._BLOCK = 16
rendered = 0

def render(number):
    global rendered
    rendered += 1
    time.sleep(0.002)
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)

records = [
    Record(str(n), lambda n=n: render(n), [f"dog number {{n % 7}}", "a ball"], split)
    for n in range({COUNT})
    for split in ["dev" if n % 5 == 4 else "train"]
]
options = {{"size": 16, "min_count": 2, "source": {{"seed": 0}}, "workers": 2}}
write_captions(records, sys.argv[1], progress=False, **options)
print(rendered)
"""


def records(count: int, rendered: list[int] | None = None, version: int = 0) -> list[Record]:
    def render(number: int) -> np.ndarray:
        if rendered is not None:
            rendered.append(number)
        return np.full((4, 4, 3), (number + version) % 256, np.uint8)

    return [
        Record(str(n), lambda n=n: render(n), [f"a dog {n}"], "dev" if n % 4 == 3 else "train")
        for n in range(count)
    ]


def write(to: Path, given: list[Record], **options: object) -> Path:
    options = {"size": 4, "min_count": 1, "progress": False, "source": {"seed": 0}, **options}
    return write_captions(given, to, **options)  # type: ignore[arg-type]


def content(path: Path) -> dict[str, object]:
    """Everything in a file that can be compared."""
    result: dict[str, object] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                result.update({name: np.asarray(item[()]).tolist()})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return result


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the children when nobody kills them."""
    path = tmp_path_factory.mktemp("whole") / "x.h5"
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) == COUNT
    return path


def test_killed_at_random_moments(whole: Path, tmp_path: Path) -> None:
    path, part = tmp_path / "x.h5", tmp_path / "x.h5.part"
    dice = random.Random(0)
    kills = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
        while not part.exists() and child.poll() is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 0.4))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        kills += child.returncode == -signal.SIGKILL
        assert path.exists() != part.exists()
    assert kills
    done = COUNT
    if part.exists():
        with h5py.File(part) as file:
            done = sum(np.count_nonzero(file["splits"][s]["done"]) for s in ("train", "dev"))
    last = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True
    )
    assert int(last.stdout) == COUNT - done  # it resumed where it stopped
    assert not part.exists()
    assert content(path) == content(whole)
    assert Captions(path).hash == Captions(whole).hash


class Stopped(BaseException):
    """Stands for the end of the process at a certain place."""


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setattr(writer, "_BLOCK", 8)
    return monkeypatch


def test_images_that_were_done_are_not_done_again(
    stopped: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, rendered = tmp_path / "x.h5", []
    commits = []

    def commit(self: slots.PartFile, items: list[slots.Item]) -> None:
        if len(commits) == 2:
            raise Stopped
        commits.append([int(item.record.name) for item in items])
        original(self, items)

    original = slots.PartFile.commit
    with stopped.context() as patch:
        patch.setattr(slots.PartFile, "commit", commit)
        with pytest.raises(Stopped):
            write(path, records(40))
    assert not path.exists()
    write(path, records(40, rendered))
    done = {number for block in commits for number in block}
    assert len(done) == 16
    assert set(rendered) == set(range(40)) - done
    write(tmp_path / "whole.h5", records(40))
    assert content(path) == content(tmp_path / "whole.h5")


@pytest.mark.parametrize("place", ["names", "tokens", "vocabulary", "header", "rename"])
def test_stopped_while_the_text_is_written(
    stopped: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    path, rendered = tmp_path / "x.h5", []

    def strings(group: h5py.Group, name: str, values: list[str]) -> None:
        if name == place:
            raise Stopped
        original(group, name, values)

    def stop(*_: object) -> None:
        raise Stopped

    original = hdf5.create_texts
    with stopped.context() as patch:
        if place in ("names", "vocabulary"):
            patch.setattr(hdf5, "create_texts", strings)
        elif place == "tokens":
            patch.setattr(text, "_split_hash", stop)
        elif place == "header":
            patch.setattr(slots.os, "fsync", stop)
        else:
            patch.setattr(slots.os, "replace", stop)
        with pytest.raises(Stopped):
            write(path, records(20))
    assert not path.exists()
    write(path, records(20, rendered), min_count=1)
    assert not rendered
    assert len(Captions(path).names) == 20


def test_other_captions_go_on_with_the_same_images(
    stopped: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, rendered = tmp_path / "x.h5", []
    interrupt(stopped, path)
    write(path, records(20, rendered), min_count=2)
    assert not rendered
    assert Captions(path).vocabulary.words[4:] == ("a", "dog")


def interrupt(patch: pytest.MonkeyPatch, path: Path) -> None:
    """Leave a .part file with all images and no text."""

    def stop(*_: object) -> None:
        raise Stopped

    with patch.context() as inner:
        inner.setattr(writer, "write_text", stop)
        with pytest.raises(Stopped):
            write(path, records(20))


@pytest.mark.parametrize("change", ["size", "names", "source"])
def test_other_images_begin_again(stopped: pytest.MonkeyPatch, tmp_path: Path, change: str) -> None:
    path, rendered = tmp_path / "x.h5", []
    interrupt(stopped, path)
    new = records(20 if change != "names" else 21, rendered, version=1)
    options: dict[str, object] = {"size": 5} if change == "size" else {}
    options |= {"source": {"seed": 1}} if change == "source" else {}
    write(path, new, **options)
    assert len(rendered) == len(new)
    assert (Captions(path)["train"].load_images([1])[0] == 2).all()


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "header"])
def test_a_damaged_leftover_begins_again(
    stopped: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    path, part, rendered = tmp_path / "x.h5", tmp_path / "x.h5.part", []
    interrupt(stopped, path)
    data = part.read_bytes()
    part.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "noise": b"noise" * 1000,
            "empty": b"",
            "header": data[:96] + b"\xff" * 400 + data[496:],
        }[damage]
    )
    write(path, records(20, rendered))
    assert len(rendered) == 20
    assert len(Captions(path).names) == 20


def test_an_image_file_that_changed_is_read_again(
    stopped: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dlmie.data.images import save_image

    files = [save_image(tmp_path / f"{n}.png", np.full((4, 4, 3), n, np.uint8)) for n in range(9)]
    given = [Record(file.name, file, ["a dog"], "train") for file in files]
    path = tmp_path / "x.h5"

    def stop(*_: object) -> None:
        raise Stopped

    with stopped.context() as patch:
        patch.setattr(writer, "write_text", stop)
        with pytest.raises(Stopped):
            write(path, given)
    save_image(files[4], np.full((4, 4, 3), 99, np.uint8))
    write(path, given)
    values = [int(image[0, 0, 0]) for image in Captions(path)["train"].load_images(range(9))]
    assert values == [0, 1, 2, 3, 99, 5, 6, 7, 8]


def test_two_writers(stopped: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    second: list[str] = []

    def commit(self: slots.PartFile, items: list[slots.Item]) -> None:
        original(self, items)
        if not second:
            second.append("")
            with pytest.raises(DataError, match="another process") as caught:
                write(path, records(20))
            second[0] = str(caught.value)

    original = slots.PartFile.commit
    stopped.setattr(slots.PartFile, "commit", commit)
    write(path, records(20))
    assert second[0].startswith(str(path) + ".part")
    assert len(Captions(path).names) == 20


class TestFullDisk:
    LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
"""

    @pytest.mark.parametrize("share", [0.005, 0.5, 1.01, 1.3, 2.5])
    def test_a_limit_that_the_system_sets(self, whole: Path, tmp_path: Path, share: float) -> None:
        """A file may not grow beyond a size: in the structure, the images and the text."""
        path = tmp_path / "x.h5"
        limit = int(COUNT * 16 * 16 * 3 * share)
        code = self.LIMITED + CHILD.replace("0.002", "0")
        result = subprocess.run(
            [sys.executable, "-c", code, str(path), str(limit)], capture_output=True, text=True
        )
        assert result.returncode == 1, result.stderr
        last = result.stderr.strip().splitlines()[-1]
        assert "DataError" in last
        assert "the disk is full; make room and run the same again" in last
        assert not path.exists()
        subprocess.run(
            [sys.executable, "-c", CHILD.replace("0.002", "0"), str(path)],
            check=True,
            capture_output=True,
        )
        assert content(path) == content(whole)

    def test_too_little_room_is_seen_before_anything_is_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(prepared.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9}))
        with pytest.raises(DataError, match=r"needs 1\.0 MB and the disk has 9 bytes left"):
            write(tmp_path / "x.h5", records(20))
        assert list(tmp_path.iterdir()) == []

    def test_errors_while_writing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(slots.os, "pwrite", full)
            with pytest.raises(
                DataError, match=r"x\.h5 was not written: the disk is full; make"
            ) as caught:
                write(tmp_path / "x.h5", records(20))
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "x.h5").exists()
        write(tmp_path / "x.h5", records(20))

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"was not written: (Not a directory|File exists)"):
            write(tmp_path / "file" / "x.h5", records(4))
