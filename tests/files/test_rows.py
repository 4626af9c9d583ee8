"""Rows that come one by one: kept at every moment, gone on with, never mixed with others' work."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dlmie.errors import DataError
from dlmie.files import rows as rows_module
from dlmie.files.rows import Form, JsonList, Row, RowFile, Table, Text

HEAD = ("image", "rank", "caption", "log_probability")
FORMS: dict[str, Callable[[], Form]] = {
    "x.csv": lambda: Table(HEAD),
    "x.json": JsonList,
    "x.txt": Text,
}
SETTINGS = {"beam": 3}


def row(name: str, captions: int = 2) -> Row:
    said = [(f'a dog, "no" {n}', -1.25 * n) for n in range(1, captions + 1)]
    listed = [{"caption": text, "log_probability": number} for text, number in said]
    return Row(
        name,
        {"image": name, **listed[0], "n_best": listed},
        "\n".join([name, *(f"  {number:8.2f}  {text}" for text, number in said)]),
        [[name, rank, *pair] for rank, pair in enumerate(said, 1)],
    )


NAMES = ["a.jpg", "b: c.jpg", "=d.jpg", "Größe, 'e'.jpg", os.fsdecode(b"caf\xe9.jpg"), "z.jpg"]


def write(path: Path, names: list[str] = NAMES, stop_after: int | None = None) -> RowFile:
    """Write what is not there yet; stop in the middle as a killed process would."""
    file = RowFile(path, FORMS[path.name](), settings=SETTINGS)
    for name in names:
        if name in file:
            continue
        if stop_after is not None and file.rows == stop_after:
            os.close(file._file)  # the lock ends with the process
            return file
        file.add(row(name))
    file.finish()
    return file


@pytest.fixture(params=FORMS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


@pytest.fixture
def whole(path: Path) -> bytes:
    write(path)
    content = path.read_bytes()
    assert os.listdir(path.parent) == [path.name]
    path.unlink()
    return content


@pytest.mark.parametrize("done", [1, 3, 5])
def test_what_is_there_is_gone_on_with(done: int, path: Path, whole: bytes) -> None:
    file = write(path, stop_after=done)
    if path.suffix == ".json":
        assert len(json.loads(file.part.read_text(encoding="utf-8"))) == done
    assert not path.exists()
    write(path)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == [path.name]


def test_a_part_that_is_cut_off_anywhere_is_gone_on_with(path: Path, whole: bytes) -> None:
    file = write(path, stop_after=4)
    part, note = file.part.read_bytes(), file._note.read_bytes()
    for end in range(len(part)):
        file.part.write_bytes(part[:end])
        file._note.write_bytes(note)
        write(path)
        assert path.read_bytes() == whole, end
        path.unlink()


def add_all(file: RowFile) -> None:
    for name in NAMES:
        file.add(row(name))


def test_a_disk_that_fills_up_keeps_what_was_written(
    path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.pwrite, 3 * len(whole) // 5

    def limited(descriptor: int, content: memoryview, place: int) -> int:
        fitting = min(len(content), max(0, room - place))
        if not fitting:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, content[:fitting], place)

    with monkeypatch.context() as patch:
        patch.setattr(rows_module.os, "pwrite", limited)
        file = RowFile(path, FORMS[path.name](), settings=SETTINGS)
        with pytest.raises(DataError, match=r"the disk is full; .*\.part keeps \d pictures: the"):
            add_all(file)
        file.stop()
    assert 0 < file.rows < len(NAMES)
    if path.suffix == ".json":
        assert len(json.loads(file.part.read_text(encoding="utf-8"))) == file.rows
    write(path)
    assert path.read_bytes() == whole


def test_of_a_file_that_could_not_begin_nothing_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows_module.atomic, "write_json", full)
    with pytest.raises(DataError, match="the disk is full"):
        RowFile(path, FORMS[path.name](), settings=SETTINGS)
    assert list(path.parent.iterdir()) == []


def test_other_settings_do_not_go_on(path: Path) -> None:
    write(path, stop_after=2)
    with pytest.raises(DataError, match=r"started with other settings \(beam\): finish it with"):
        RowFile(path, FORMS[path.name](), settings={"beam": 5})
    anew = RowFile(path, FORMS[path.name](), settings={"beam": 5}, overwrite=True)
    assert anew.rows == 0
    assert NAMES[0] not in anew
    anew.stop()
    assert list(path.parent.iterdir()) == []


def test_rows_of_others_and_of_people_stay(path: Path) -> None:
    write(path, NAMES[:3])
    text = path.read_text(encoding="utf-8")
    corrected = text.replace("a dog", "a cat of Größe", 1)
    path.write_text(corrected, encoding="utf-8")
    write(path, [*NAMES[1:], NAMES[0]])
    joined = path.read_text(encoding="utf-8")
    assert joined.count("a cat of Größe") == 1
    write(path)  # nothing is missing: nothing changes
    assert path.read_text(encoding="utf-8") == joined
    whole = path.with_name("other" + path.suffix)
    FORMS[whole.name] = FORMS[path.name]
    write(whole)
    assert joined.replace("a cat of Größe", "a dog") == whole.read_text(encoding="utf-8")
    del FORMS[whole.name]


def test_a_table_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        '\ufeffcaption;image;note\r\n"ein Hund; rennt";photos/a.jpg;von Hand\r\nzwei\r\n'.encode()
    )
    file = RowFile(path, Table(HEAD), settings={})
    assert "photos/a.jpg" in file
    assert "./photos/a.jpg" in file
    assert os.path.abspath("photos/a.jpg") in file
    file.add(row("b;c.jpg", captions=1))
    file.finish()
    content = path.read_bytes().decode("utf-8-sig")
    assert content.startswith('caption;image;note\r\n"ein Hund; rennt";photos/a.jpg;von Hand\r\n')
    table = list(csv.DictReader(content.splitlines(), delimiter=";"))
    assert (table[-1]["image"], table[-1]["caption"]) == ("b;c.jpg", 'a dog, "no" 1')


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b'{"a": 1}'),
        ("x.json", b"[1, 2]"),
        ("x.json", b"[" * 100_000),
        ("x.csv", "image,caption\na,b\n".encode("utf-16")),
        ("x.txt", b"caf\xe9: a dog\n"),
    ],
)
def test_what_cannot_be_added_to_stays(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no file to add rows to|is not UTF-8 text"):
        RowFile(path, FORMS[name](), settings={})
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", '[\n  {"image": ' + "[" * 100_000),
        ("x.json", '[\n  {"caption": "a dog"}'),
        ("x.csv", "\ufeff" + ",".join(HEAD) + '\na.jpg,1,"' + "x" * 200_000),
    ],
)
def test_a_part_that_cannot_be_read_is_named(name: str, content: str, tmp_path: Path) -> None:
    part = tmp_path / f"{name}.part"
    part.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{name}\.part is (damaged|no file to add rows to)"):
        RowFile(tmp_path / name, FORMS[name](), settings={})
    assert part.read_text(encoding="utf-8") == content


def test_empty_lines_of_a_part_are_no_rows(path: Path, whole: bytes) -> None:
    file = write(path, stop_after=3)
    with file.part.open("ab") as part:
        part.write(b"\n\n")
    write(path)
    assert path.read_bytes() == whole


def test_two_processes_do_not_write_one_file(path: Path) -> None:
    first = RowFile(path, FORMS[path.name](), settings=SETTINGS)
    first.add(row("a.jpg"))
    with pytest.raises(DataError, match="another process is writing this file"):
        RowFile(path, FORMS[path.name](), settings=SETTINGS)
    first.finish()
    second = RowFile(path, FORMS[path.name](), settings=SETTINGS)
    assert "a.jpg" in second
    second.stop()


def test_a_file_without_rows(path: Path) -> None:
    write(path, [])
    assert path.exists()
    file = RowFile(path, FORMS[path.name](), settings={})
    assert "a.jpg" not in file
    file.stop()


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_rows
add = test_rows.RowFile.add
def slowly(self, row):
    add(self, row)
    time.sleep(0.002)
test_rows.RowFile.add = slowly
test_rows.write(Path(sys.argv[1]), [f"{n:03d}.jpg" for n in range(300)])
"""


def test_killed_at_any_moment_the_file_is_as_if_it_had_not_been(path: Path) -> None:
    names = [f"{n:03d}.jpg" for n in range(300)]
    write(path, names)
    whole = path.read_bytes()
    path.unlink()
    part = path.with_name(path.name + ".part")
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    for share in (0.02, 0.4, 0.7):
        with subprocess.Popen(command) as process:
            while not (part.exists() and part.stat().st_size > share * len(whole)):
                assert process.poll() is None
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert not path.exists()
    write(path, names)
    assert path.read_bytes() == whole
    assert os.listdir(path.parent) == [path.name]


def test_pictures_without_a_result_are_told_in_json_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    rows = RowFile(path, JsonList(), settings={})
    rows.fail("a.jpg", "a.jpg: is empty")
    rows.add(row("b.jpg"))
    rows.stop()
    again = RowFile(path, JsonList(), settings={})  # goes on: not tried again
    assert "a.jpg" in again
    assert again.failures == ["a.jpg: is empty"]
    again.finish()
    assert json.loads(path.read_text())[0] == {"image": "a.jpg", "error": "a.jpg: is empty"}
    more = RowFile(path, JsonList(), settings={})  # is added to: tried again
    assert "a.jpg" not in more
    assert "b.jpg" in more
    more.add(row("./a.jpg"))
    more.finish()
    items = json.loads(path.read_text())
    assert [(item["image"], "error" in item) for item in items] == [
        ("./a.jpg", False),  # where it stood
        ("b.jpg", False),
    ]
    table = RowFile(tmp_path / "captions.csv", Table(HEAD), settings={})
    table.fail("a.jpg", "is empty")
    table.finish()
    assert "a.jpg" not in (tmp_path / "captions.csv").read_text()
