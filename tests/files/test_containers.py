"""Model files: all or nothing, whatever the disk or the file does."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytensor
import pytest

from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers as storage

ARRAYS = {
    "/lstm/W": np.arange(6, dtype=np.float32).reshape(2, 3),
    "/lstm/b": np.zeros((0, 4)),
    "/step": np.asarray(7, np.int64),
}


def shared(name: str, value: Any) -> Any:
    return pytensor.shared(np.asarray(value), name=name)


def rewrite_header(path: Path, change: dict[str, Any]) -> None:
    with h5py.File(path, "r+") as file:
        header = json.loads(bytes(file["header"][()])) | change
        del file["header"]
        file["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    words = [f"word{i}" for i in range(20_000)]  # far longer than an HDF5 attribute may be
    path = storage.save(tmp_path / "new" / "m.h5", ARRAYS, {"vocabulary": words, "version": 99})
    header, arrays = storage.load(path)
    assert header["vocabulary"] == words
    assert header["version"] == storage.KIND.version
    assert storage.load_header(path) == header
    assert sorted(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert os.listdir(path.parent) == ["m.h5"]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    one = storage.save(tmp_path / "1.h5", ARRAYS, {"a": 1, "b": 2})
    two = storage.save(tmp_path / "2.h5", dict(reversed(ARRAYS.items())), {"b": 2, "a": 1})
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_file(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage.save(tmp_path / "m.h5", ARRAYS, {"epoch": 1})

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(DlmieError, match=r"m\.h5 was not written: the disk is full") as caught:
        storage.save(path, ARRAYS, {"epoch": 2})
    assert "\n" not in str(caught.value)
    assert storage.load_header(path)["epoch"] == 1
    assert os.listdir(tmp_path) == ["m.h5"]


def test_a_disk_that_is_really_full_is_one_line_to_the_end_of_the_process(tmp_path: Path) -> None:
    # A limit on the size of files acts like a full disk.  HDF5 itself would complain again, where
    # nobody can catch it, when the process ends.
    script = """
import resource, signal, sys, numpy as np
from dlmie.files import containers as storage
from dlmie.errors import DlmieError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))
try:
    storage.save(sys.argv[1], {f"/a{i}": np.ones(2000) for i in range(8)}, {})
except DlmieError as error:
    print(error)
"""
    path = tmp_path / "m.h5"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path} was not written: the disk is full")
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DlmieError, match=r"file/m\.h5 was not written: (File exists|Not a dir)"):
        storage.save(tmp_path / "file" / "m.h5", ARRAYS, {})


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(share: float, tmp_path: Path) -> None:
    path = storage.save(tmp_path / "m.h5", {"/W": np.ones((100, 100))}, {"words": ["x"] * 1000})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"m\.h5 .*(truncated|damaged)"):
        storage.load(path)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("part", ["/W", "header"])
def test_a_changed_byte_is_found(part: str, compress: bool, tmp_path: Path) -> None:
    W = np.random.default_rng(0).standard_normal((50, 40)).astype("float32")
    path = storage.save(tmp_path / "m.h5", {"/W": W}, {"words": ["dog"] * 99}, compress=compress)
    with h5py.File(path) as file:
        stored = file["header" if part == "header" else "arrays/W"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[stored.byte_offset + stored.size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"m\.h5 .*(damaged|not a complete)"):
        storage.load(path)


def test_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        storage.load(tmp_path / "absent.h5")
    path = tmp_path / "f.h5"
    path.write_bytes(b"\x89PNG not HDF5")
    with pytest.raises(WeightsError, match="not a complete dlmie model file"):
        storage.load(path)
    contents: list[Any] = [5, 10**15, "text", '{"format": "dlmie.captions", "version": 1}', None]
    for content in contents:
        with h5py.File(path, "w") as file:
            if content is None:
                file.create_group("header")
            else:
                file["header"] = content
        with pytest.raises(WeightsError, match=r"f\.h5.* not a (complete )?dlmie model"):
            storage.load(path)


def test_a_file_of_the_future_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = storage.save(tmp_path / "m.h5", ARRAYS, {})
    rewrite_header(path, {"version": storage.KIND.version + 1})
    with pytest.raises(WeightsError, match=r"format version 2, this dlmie reads up to 1; upgrade"):
        storage.load(path)
    rewrite_header(path, {"version": "two"})
    with pytest.raises(WeightsError, match="not a dlmie model"):
        storage.load(path)


def test_assigning_is_all_or_nothing_with_every_problem_in_one_message() -> None:
    variables = [
        shared("/a", np.zeros(2, np.float32)),
        shared("/b", np.zeros((2, 3), np.float32)),
        shared("/step", np.int64(0)),
        shared("/c", np.zeros(1, np.float32)),
    ]
    arrays = {
        "/a": np.ones(2, np.float32),
        "/b": np.ones((3, 2), np.float32),
        "/step": np.asarray(1.5),
        "/d": np.ones(1),
    }
    with pytest.raises(WeightsError) as caught:
        storage.assign(variables, arrays, "best.h5")
    message = str(caught.value)
    for part in (
        "best.h5 does not fit the model",
        "/c is missing",
        "/d is not part of the model",
        "/b has shape (3, 2), the model has (2, 3)",
        "/step is float64, the model has int64",
    ):
        assert part in message
    assert not any(v.get_value().any() for v in variables)


def test_floats_of_another_width_are_cast() -> None:
    variable = shared("/W", np.zeros(2, np.float32))
    storage.assign([variable], {"/W": np.asarray([0.5, 2.0], np.float16)}, "f16.h5")
    assert variable.get_value().dtype == np.float32
    assert variable.get_value().tolist() == [0.5, 2.0]
