"""HDF5 files of anyone: nothing of other files, no bombs, no endless heaps; text of two formats."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import Features
from dlmie.errors import DataError, WeightsError
from dlmie.files import containers, hdf5
from dlmie.weights import read as read_weights

TEXTS = ["a dog", "", "Größe 你好", os.fsdecode(b"caf\xe9.jpg"), "x" * 5000]
_VARIABLE = h5py.string_dtype("utf-8")


def test_text_comes_back(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        hdf5.create_texts(file, "list", TEXTS)
        hdf5.create_texts(file, "none", [])
        for number, text in enumerate(TEXTS):
            hdf5.create_text(file, f"text{number}", text)
    with hdf5.open_hdf5(tmp_path / "x.h5") as file:
        assert hdf5.read_texts(file["list"]) == TEXTS
        assert hdf5.read_texts(file["none"]) == []
        assert [hdf5.read_text(file[f"text{n}"]) for n in range(len(TEXTS))] == TEXTS


def test_text_takes_no_more_than_is_foreseen() -> None:
    texts = [*TEXTS, "\x00\x01\n" * 500, '"\\' * 500, "你" * 500, "𝕏" * 500]
    image = hdf5.file_image(lambda file: hdf5.create_texts(file, "t", texts))
    empty = hdf5.file_image(lambda file: None)
    assert len(image) - len(empty) <= hdf5.text_bytes(texts)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_text_of_variable_length_is_read(libver: str, tmp_path: Path) -> None:
    texts = [text for text in TEXTS if text.isprintable()] * 30  # more than one heap
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        file.create_dataset("list", data=np.array(texts, dtype=object), dtype=_VARIABLE)
        file.create_dataset("one", data="Größe", dtype=_VARIABLE)
        file.create_dataset("none", data=np.array([], dtype=object), dtype=_VARIABLE)
    with hdf5.open_hdf5(tmp_path / "x.h5") as file:
        assert hdf5.read_texts(file["list"]) == texts
        assert hdf5.read_text(file["one"]) == "Größe"
        assert hdf5.read_texts(file["none"]) == []


READ = """
import sys
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.feature_cache import Features
from dlmie.errors import DlmieError
for path in sys.argv[1:]:
    try:
        data = Captions(path)
        for split in data:
            split.names, split.references
    except (DlmieError, OSError, ValueError, KeyError):
        pass
"""


def first_format(path: Path) -> Path:
    """A prepared file whose text is of variable length, as version 0.1.0 wrote it."""
    with h5py.File(path, "w", libver="earliest") as file:
        group = file.create_group("splits/train")
        for name, texts in {"names": ["a.jpg"] * 40, "references": ["a dog runs"] * 40}.items():
            group.create_dataset(name, data=np.array(texts, dtype=object), dtype=_VARIABLE)
        group["token_image"] = np.arange(40)
        words = np.array(["<pad>", "<start>", "<end>", "<unk>", "a", "dog"], dtype=object)
        file.create_dataset("vocabulary", data=words, dtype=_VARIABLE)
        header = (
            '{"format": "dlmie.captions", "version": 1, "size": 8, "hash": "0", "tokenizer": '
            '"words", "splits": {"train": {"images": 40, "captions": 40, "hash": "0"}}}'
        )
        file.create_dataset("header", data=header, dtype=_VARIABLE)
    return path


def test_a_damaged_heap_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    whole = first_format(tmp_path / "whole.h5")
    assert Captions(whole)["train"].references == [["a dog runs"]] * 40
    content = whole.read_bytes()
    heap = content.index(b"GCOL")
    rng = random.Random(0)
    paths = []
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(2):  # in the heads of the heap's objects, mostly
            damaged[heap + rng.randrange(4096)] = rng.choice((0, 255, 240, 8))
        paths.append(tmp_path / f"{number}.h5")
        paths[-1].write_bytes(damaged)
    sizes = bytearray(content)
    sizes[heap + 24 : heap + 32] = (2**64 - 16).to_bytes(8, "little")  # wraps to no step at all
    paths[0].write_bytes(sizes)
    with pytest.raises(DataError, match="is damaged"):
        Captions(paths[0])
    # In a process of its own: what loops inside HDF5 hears no signal.
    command = [sys.executable, "-c", READ, *map(str, paths)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


def test_a_reported_file_that_hung_is_damaged(shared: Path) -> None:
    path = shared / "cases/inputs/damaged/hang-prepared-2bytes.h5"
    code = f"from dlmie.data.captions.dataset import Captions; Captions({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "DataError" in done.stderr
    assert "is damaged" in done.stderr


def test_attributes_of_weight_files_have_heaps_too(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["conv/kernel"] = np.ones(4)
        names = np.array(["conv"], dtype=object)
        file.attrs.create("layer_names", names, dtype=_VARIABLE)
        file["conv"].attrs.create(
            "weight_names", np.array(["kernel"], dtype=object), dtype=_VARIABLE
        )
    assert list(read_weights(path)) == ["conv/kernel"]
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 24 : heap + 32] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        read_weights(path)


def _external_storage(file: h5py.File, secret: Path) -> None:
    file.create_dataset("x", (16,), "u1", external=[(str(secret), 0, 16)])


def _virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "W", (4,))
    file.create_virtual_dataset("x", layout)


def _external_link(file: h5py.File, secret: Path) -> None:
    file["x"] = h5py.ExternalLink(str(secret), "/W")


@pytest.mark.parametrize("trick", [_external_storage, _virtual, _external_link])
@pytest.mark.parametrize("place", ["", "splits/train/deep"])
def test_nothing_of_other_files_is_read(
    trick: Callable[[Any, Path], None], place: str, tmp_path: Path
) -> None:
    secret, path = tmp_path / "secret.txt", tmp_path / "x.h5"
    secret.write_text("the text of a local file")
    with h5py.File(path, "w") as file:
        trick(file.require_group(place) if place else file, secret)
    readers: list[Callable[[Path], object]] = [Captions, Features, containers.load]
    for reader in readers:
        with pytest.raises((DataError, WeightsError), match=r"x\.h5.* from another file; refused"):
            reader(path)


@pytest.mark.parametrize("filters", [{}, {"compression": 9}])
def test_declared_sizes_are_checked_first(filters: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("splits/train/tokens", (2_000_000_000,), "i4", **filters)
        file.create_dataset("arrays/W", (4,), "f4")
    for reader in (Captions, Features, containers.load):
        with pytest.raises((DataError, WeightsError), match=r"declares 8,000,000,\d+ bytes"):
            reader(path)


@pytest.mark.parametrize("name", ["prepared_tokens.h5", "features_big.h5"])
def test_reported_bombs_are_refused(name: str, shared: Path) -> None:
    reader = Captions if "prepared" in name else Features
    with pytest.raises(DataError, match=r"declares .* bytes of arrays in a file of"):
        reader(shared / "cases/inputs/damaged" / name)


LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "rb+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_locks_is_read(tmp_path: Path) -> None:
    path = containers.save(tmp_path / "m.h5", {"/W": np.ones(3)}, {"kind": "test"})
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        assert containers.load(path)[0]["kind"] == "test"
        with h5py.File(path, "r", locking=False):
            assert containers.load(path)[0]["kind"] == "test"
        holder.stdin.close()
    with h5py.File(path):  # opened by somebody in this very process
        assert containers.load(path)[0]["kind"] == "test"


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "pipe", "is a pipe or a device, not a file"),
        (tmp_path, "is a folder, not a file"),
        (tmp_path / "none.h5", "no such file"),
        (tmp_path / ("n" * 300), "cannot be opened: File name too long"),
    ):
        with pytest.raises(DataError, match=says):
            hdf5.open_hdf5(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_reason_of_the_system_is_told(tmp_path: Path) -> None:
    path = containers.save(tmp_path / "m.h5", {}, {})
    path.chmod(0)
    with pytest.raises(WeightsError, match="cannot be opened: Permission denied"):
        containers.load(path)


def complaint(reader: Callable[[Path], object], path: Path) -> str:
    try:
        reader(path)
    except (DataError, WeightsError) as error:
        return str(error)
    return ""


def test_any_damage_is_one_line(tmp_path: Path) -> None:
    whole = first_format(tmp_path / "whole.h5").read_bytes()
    model = containers.save(tmp_path / "m.h5", {"/W": np.ones((5, 5))}, {"kind": "x"}).read_bytes()
    rng, path = random.Random(1), tmp_path / "x.h5"
    readers: dict[bytes, Callable[[Path], object]] = {whole: Captions, model: containers.load}
    for content, reader in readers.items():
        for _ in range(150):
            damaged = bytearray(content)
            for _ in range(rng.choice((1, 4, 16))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            path.write_bytes(damaged)
            assert "\n" not in complaint(reader, path)


def test_groups_in_circles_are_walked_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        inner = file.create_group("a/b")
        inner["again"] = file["a"]
        file["a/x"] = np.ones(3)
    with hdf5.open_hdf5(tmp_path / "x.h5") as file:
        names = [name for name, _, _ in hdf5.entries(file)]
    assert names == ["a", "a/b", "a/b/again", "a/x"]
