"""Damaged files, files from the future, and files that claim more than they hold."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlmie.errors import WeightsError
from dlmie.weights import read
from dlmie.weights.torch_legacy import MAGIC, VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "weights"
PICKLED_AND_PLAIN = [
    "torch_zip.pth",
    "torch_legacy.pth",
    "torch_checkpoint.pth",
    "model.safetensors",
    "expected.npz",
    "vgg16_python2.npy",
]


def refuse(path: Path, content: bytes) -> str:
    """Write `content`, read it, and give the message; little memory may be used on the way."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as raised:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(content) + 20e6
    message = str(raised.value)
    assert message.startswith(f"{path} ")
    assert "\n" not in message
    return message


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights"


# Damaged and unknown files


@pytest.mark.parametrize("name", [*PICKLED_AND_PLAIN, "keras.h5"])
def test_truncated_anywhere(path: Path, name: str) -> None:
    if name == "keras.h5":
        with h5py.File(path, "w") as file:
            file["W1"], file["b1"] = np.ones((8, 8)), np.ones(8)
        whole = path.read_bytes()
    else:
        whole = (GOLDEN / name).read_bytes()
    for length in [*range(0, len(whole) - 1, 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read(path)


@pytest.mark.parametrize("name", PICKLED_AND_PLAIN)
def test_flipped_bytes_give_arrays_or_one_error(path: Path, name: str) -> None:
    whole = (GOLDEN / name).read_bytes()
    rng = random.Random(name)
    for _ in range(300):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        path.write_bytes(broken)
        try:
            arrays = read(path)
        except WeightsError:
            continue
        assert all(array.dtype.kind in "biufc" for array in arrays.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\x1f\x8b\x08\x00", "run `gunzip`"),
        (b"model.pth".ljust(257, b"\0") + b"ustar" + bytes(250), "is a tar archive"),
        (b"(a dog).", "damaged or truncated"),  # begins and ends like an old pickle
        (b"caption: a dog.", "no weight file"),
        (b"Hello, I am a text.", "no weight file that dlmie knows; it reads HDF5"),
    ],
)
def test_what_is_no_weight_file(path: Path, content: bytes, says: str) -> None:
    assert says in refuse(path, content)


def test_missing_file_folder_and_no_arrays(tmp_path: Path, path: Path) -> None:
    with pytest.raises(WeightsError, match="weights does not exist: check the path"):
        read(path)
    with pytest.raises(WeightsError, match="is not a file"):
        read(tmp_path)
    assert "holds no arrays" in refuse(path, pickle.dumps({"epoch": 3}))


# From the future


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def golden_members() -> dict[str, bytes]:
    with zipfile.ZipFile(GOLDEN / "torch_zip.pth") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_newer_layouts_are_named(path: Path) -> None:
    members = golden_members()
    members["torch_zip/version"] = b"11\n"
    assert "version 11 of PyTorch's layout; dlmie reads up to 10" in refuse(path, zipped(members))
    legacy = pickle.dumps(MAGIC, 2) + pickle.dumps(VERSION + 1, 2) + pickle.dumps({}, 2)
    assert "version 1002 of PyTorch's old layout" in refuse(path, legacy)
    assert "version 4 of the .npy format" in refuse(path, b"\x93NUMPY\x04\x00" + bytes(64))
    assert "unsupported pickle protocol: 99" in refuse(path, b"\x80\x63}.")


def test_other_archives_are_named(path: Path) -> None:
    assert "TorchScript" in refuse(
        path, zipped({**golden_members(), "torch_zip/constants.pkl": b""})
    )
    assert "is damaged or truncated" in refuse(path, zipped({"model.weights.h5": b""}))
    assert "zip archive without arrays" in refuse(path, zipped({"readme.txt": b""}))


# PyTorch files made by hand


def push(value: Any) -> bytes:
    """The instructions that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(
    length: int = 4,
    *,
    offset: Any = 0,
    shape: Any = (4,),
    strides: Any = (1,),
    kind: str = "FloatStorage",
    key: str = "0",
) -> bytes:
    """A pickled tensor on a storage of `length` elements."""
    named = f"ctorch\n{kind}\n".encode()
    storage = b"(" + push("storage") + named + push(key) + push("cpu") + push(length) + b"tQ"
    place = push(offset) + push(shape) + push(strides)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + b"\x89}tR."


def torch_zip(pickled: bytes, data: bytes = bytes(16), **more: bytes) -> bytes:
    members = {f"m/{name}": content for name, content in more.items()}
    return zipped({"m/data.pkl": pickled, "m/data/0": data, **members})


def torch_legacy(pickled: bytes, data: bytes, *, length: int = 4, little: bool = True) -> bytes:
    head = [pickle.dumps(part, 2) for part in (MAGIC, VERSION, {"little_endian": little})]
    count = length.to_bytes(8, "little" if little else "big")
    return b"".join([*head, pickled, pickle.dumps(["0"], 2), count, data])


def test_big_endian_machines(path: Path) -> None:
    expected = np.arange(4, dtype=np.float32)
    data = expected.astype(">f4").tobytes()
    for content in (
        torch_zip(tensor(), data, byteorder=b"big"),
        torch_legacy(tensor(), data, little=False),
    ):
        path.write_bytes(content)
        (found,) = read(path).values()
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (tensor(2**50), "a storage of 4,503,599,627,370,496 bytes has 16"),
        (tensor(2**50, shape=(2**50,)), "a storage of"),
        (tensor(offset=1), "reaches outside its storage of 4 elements"),
        (tensor(offset=-1), "sizes are no whole numbers"),
        (tensor(shape=(2, 2), strides=(3, 2)), "reaches outside its storage"),
        (tensor(shape=(4,), strides=(-1,)), "sizes are no whole numbers"),
        (tensor(shape=(2**40, 2**40), strides=(0, 0)), "reaches outside its storage"),
        (tensor(shape=(2, 2)), "strides do not fit its shape"),
        (tensor(shape=(1,) * 65, strides=(1,) * 65), "not a row of numbers"),
        (tensor(shape=[2.0], strides=[1]), "sizes are no whole numbers"),
        (tensor(key="1"), "its storage '1' is missing"),
        (tensor(key="../../0"), "its storage '../../0' is missing"),
        (tensor(kind="QInt8Storage"), "asks for torch.QInt8Storage; refused"),
    ],
)
def test_torch_storages_and_strides(path: Path, pickled: bytes, says: str) -> None:
    assert says in refuse(path, torch_zip(pickled))


def test_torch_legacy_storages(path: Path) -> None:
    huge = torch_legacy(tensor(2**50), bytes(16), length=2**50)
    assert "bytes announced" in refuse(path, huge)
    assert "not as long as it says" in refuse(path, torch_legacy(tensor(), bytes(16), length=3))
    unknown = torch_legacy(tensor(key="9"), bytes(16))
    assert "a storage that no tensor uses" in refuse(path, unknown)


def test_expanded_tensors_cost_no_memory(path: Path) -> None:
    path.write_bytes(torch_zip(tensor(shape=(1000, 1000), strides=(0, 0))))
    (found,) = read(path).values()
    assert found.shape == (1000, 1000)
    assert found.strides == (0, 0)


# More than the file holds


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
ENCODED_AGAIN = b"c_codecs\nencode\nh\x00" + text("latin1") + b"\x86R"
FLOAT = b"cnumpy\ndtype\n" + text("f4") + b"\x85R"


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.", "bytes announced"),  # BINBYTES8
        (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"x.", "bytes announced"),  # BYTEARRAY8
        (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"x.", "bytes announced"),  # FRAME
        (b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"x.", "bytes announced"),  # LONG4
        (b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b".", "holds no arrays"),  # LONG_BINPUT
        (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "more than 32 deep"),
        (b"\x80\x02]q\x00" + b"h\x00h\x00\x86a" * 50 + b".", "more than 32 deep"),
        (b"\x80\x02)" + b"q\x00h\x00\x86" * 100 + b"q\x00}h\x00Ns.", "neither text nor numbers"),
        (b"\x80\x02}" + text("x" * 5000) + ARRAY + b"s.", "a name of 5,000 letters"),
        (
            b"\x80\x02" + ARRAY + b"(K\x01J\xff\xff\xff\x7f\x85" + FLOAT + b"\x89U\x04abcdtb.",
            "needs 8,589,934,588 bytes, 4 are there",
        ),
        (
            b"\x80\x02" + text("y" * 1000) + b"q\x00](" + ENCODED_AGAIN * 100 + b"e.",
            "declares more data than it holds",
        ),
    ],
)
def test_pickles_that_announce_more_than_they_hold(path: Path, pickled: bytes, says: str) -> None:
    assert says in refuse(path, pickled)


def test_a_million_names_for_one_list(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlmie.weights.containers.MAX_VISITS", 10_000)
    doubled = b"q\x00](h\x00h\x00e" * 20  # a list that holds the one before it twice
    assert "more than 10,000 entries" in refuse(path, b"\x80\x02]" + doubled + b".")


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        (b"cnumpy\ndtype\n" + text("V16") + b"\x85R", "holds elements of type 'V16'"),
        (b"cnumpy\ndtype\n" + text("U4") + b"\x85R", "holds elements of type 'U4'"),
        (b"cnumpy\ndtype\n]\x85R", "without a plain element type"),
        (FLOAT + b"(K\x03U\x01<]]NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", "arrays of records"),
        (FLOAT + b"(K\x03U\x02<<NNNK\x00tb", "an element type without a byte order"),
        (b"cnumpy\ndtype\nU\x02O8\x85R", "a bytes stands at the wrong place"),
    ],
)
def test_arrays_of_anything_but_numbers(path: Path, dtype: bytes, says: str) -> None:
    pickled = b"\x80\x02" + ARRAY + b"(K\x01K\x01\x85" + dtype + b"\x89U\x04abcdtb."
    assert says in refuse(path, pickled)


def npy(descr: Any, shape: Any, data: bytes = b"") -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy("<f4", (2**40,)), "needs 4,398,046,511,104 bytes, 0 are there"),
        (npy("<f4", (2,), bytes(12)), "needs 8 bytes, 12 are there"),
        (npy("<f4", (-1,)), "sizes are no whole numbers"),
        (npy("<U4", (1,), bytes(16)), "holds elements of type '<U4'"),
        (npy([("a", "<f4")], (1,), bytes(4)), "only numbers are read"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31), "a .npy header of 2,147,483,648 bytes"),
        (b"\x93NUMPY\x01\x00\x10\x00__import__('os') ", "damaged or truncated"),
    ],
)
def test_npy_headers(path: Path, content: bytes, says: str) -> None:
    assert says in refuse(path, content)


def test_zip_bombs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlmie.files.limits.ALWAYS_ALLOWED", 0)
    bomb = npy("<f4", (2**22,), bytes(2**24))
    for name in ("W.npy", "m/data.pkl"):
        content = zipped({name: bomb}, zipfile.ZIP_DEFLATED)
        assert "declares 16,777,287 bytes of arrays in a file of" in refuse(path, content)
    lie = zipped({"W.npy": npy("<f4", (2**33,), bytes(64))})
    assert "34,359,738,368 bytes, 64 are there" in refuse(path, lie)


# safetensors


def safetensors(header: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (safetensors({"W": entry()}, length=2**26), "bytes announced"),
        (safetensors(b"{" + b" " * 64, length=10**8 + 1), "no weight file"),
        (safetensors({"W": entry(offsets=(0, 16), shape=(4,))}), "the data of 'W' lie at 0 to 16"),
        (safetensors({"W": entry(offsets=(8, 0))}), "the data of 'W' lie at 8 to 0"),
        (safetensors({"W": entry(offsets=(-8, 0))}), "sizes are no whole numbers"),
        (safetensors({"W": entry(shape=(2**60,))}), "needs 4,611,686,018,427,387,904 bytes"),
        (safetensors({"W": entry(shape=(3,))}), "needs 12 bytes, 8 are there"),
        (safetensors({"W": entry(shape=(True, 2))}), "sizes are no whole numbers"),
        (safetensors({"W": entry(dtype="F8_E4M3")}), "holds 'W' as 'F8_E4M3', which NumPy lacks"),
        (
            safetensors({"a": entry(), "b": entry()}),
            "the data of 'b' lie at 0 to 8, expected from 8",
        ),
        (safetensors({"W": entry()}, bytes(12)), "4 bytes belong to no array"),
        (safetensors(b'{"W": {"dtype": "F32"}, "W": {}}'), "the same name twice"),
        (safetensors(b"{" * 5000), "damaged or truncated"),
        (safetensors({"W": [1]}), "damaged or truncated"),
        (safetensors({"__metadata__": {"a": "b"}}, b""), "holds no arrays"),
    ],
)
def test_safetensors_headers(path: Path, content: bytes, says: str) -> None:
    assert says in refuse(path, content)


def test_no_warning_escapes(path: Path) -> None:
    path.write_bytes(b"(S'\\d'\nt.")  # an escape that newer Pythons frown upon
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WeightsError):
            read(path)
