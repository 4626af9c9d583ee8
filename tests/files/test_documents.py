"""JSON and text of anyone: decoded by its first bytes, and one line for every fault."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlmie.errors import DataError, WeightsError
from dlmie.files.documents import decode, find_encoding, parse_json, read_json, read_text

TEXT = '{"a.jpg": "Un café près de la mer"}'


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_json_of_every_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(TEXT.encode(encoding))
    assert read_json(path) == {"a.jpg": "Un café près de la mer"}


def test_marks_of_big_endian_text() -> None:
    for mark, encoding in ((b"\xfe\xff", "utf-16-be"), (b"\0\0\xfe\xff", "utf-32-be")):
        assert decode(mark + TEXT.encode(encoding), "x") == TEXT
    assert find_encoding(b"") == "utf-8"


def test_only_line_ends_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("a\u2028b\r\nc\rd\x0be\n".encode())
    assert read_text(path) == "a\u2028b\nc\nd\x0be\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 50_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "too many digits"),
        (b'{"id": -' + b"1" * 9000 + b"}", "too many digits"),
        (b'{"a": "x",\n "b"', r"line 2, column 5"),
        (b"", "line 1, column 1"),
        (b'{"a": "\xe9"}', r"not UTF-8 text \(byte 7\)"),
        (b"\xff\xfe{", "not UTF-16 text"),
    ],
)
def test_a_fault_is_one_line_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(WeightsError, match="is a folder, not a file"):
        read_json(tmp_path, WeightsError)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or a device, not a file"):
        read_text(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"cannot be opened: .*embedded null"):
        read_text("a\0b")


def test_named_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("café’s".encode("cp1252"))
    assert read_text(path, "cp1252") == "café’s"
    with pytest.raises(DataError, match="encoding 'latin-99' is not known"):
        read_text(path, "latin-99")
    with pytest.raises(DataError, match="not in the encoding ascii"):
        read_text(path, "ascii")
    with pytest.raises(DataError, match="name its encoding"):
        read_text(path)


def test_pairs_of_objects_are_given_in_order() -> None:
    assert parse_json('{"a": 1, "a": 2}', "x", pairs=list) == [("a", 1), ("a", 2)]
