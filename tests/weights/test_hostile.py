"""Pickles that try to run something: refused by name, and nothing runs.

Every payload would create a sentinel file; each test looks that it is not there, and one proves
that the payloads are sharp by giving them to the ordinary `pickle`.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.errors import WeightsError
from dlmie.weights import read
from dlmie.weights.torch_legacy import MAGIC, VERSION

SYSTEM = f"{os.system.__module__}.system"  # posix.system
EXTENSION = 0xD1  # a code for os.system in the registry that pickle's EXT instructions look into


class Call:
    """Pickles as the call of a function, and a state to set on what it returns."""

    def __init__(self, *function_and_arguments: Any, state: Any = None) -> None:
        self.parts = function_and_arguments
        self.state = state

    def __reduce__(self) -> Any:
        function, *arguments = self.parts
        return (function, tuple(arguments), *([self.state] if self.state else []))


class Loader:
    """Pickles as a call of `numpy.load` that allows pickles: the attack sits in another file."""

    def __init__(self, path: Path) -> None:
        np.save(path, np.array([Call(os.system, f"touch {path.parent / 'sentinel'}")], object))
        self.path = str(path)

    def __reduce__(self) -> Any:
        return np.load, (self.path, None, True)


def touch(sentinel: Path) -> str:
    return f"touch {sentinel}"


def python(sentinel: Path) -> str:
    return f"__import__('pathlib').Path({str(sentinel)!r}).touch()"


def short(value: object) -> bytes:
    """The instruction that pushes a text."""
    return b"X" + struct.pack("<I", len(str(value).encode())) + str(value).encode()


def line(value: str) -> bytes:
    """The same in the instructions of protocol 0."""
    return b"S" + repr(value).encode() + b"\n"


RECONSTRUCT = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\n"

# Pickles that run something in `pickle.loads`; what the refusal names.
SHARP: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "os.system": (lambda to: pickle.dumps(Call(os.system, touch(to))), SYSTEM),
    "os.system in protocol 0": (lambda to: pickle.dumps(Call(os.system, touch(to)), 0), SYSTEM),
    "os.system by Python 2": (lambda to: b"cos\nsystem\n(" + line(touch(to)) + b"tR.", "os.system"),
    "eval": (lambda to: pickle.dumps(Call(eval, python(to))), "builtins.eval"),
    "exec by Python 2": (
        lambda to: pickle.dumps(Call(exec, python(to)), 2),
        "__builtin__.exec",
    ),
    "getattr chain": (
        lambda to: (
            b"cbuiltins\ngetattr\n(c__builtin__\n__import__\n("
            + line("os")
            + b"tR"
            + line("system")
            + b"tR("
            + line(touch(to))
            + b"tR."
        ),
        "builtins.getattr",
    ),
    "numpy.load": (lambda to: pickle.dumps(Loader(to.with_name("more.npy"))), r"numpy.*\bload"),
    "in an object array": (
        lambda to: pickle.dumps(np.array([Call(os.system, touch(to))], object)),
        SYSTEM,
    ),
    "in the state of an array": (
        lambda to: (
            RECONSTRUCT + b"ndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8\x85R\x89]cos\nsystem\n"
            + short(touch(to))
            + b"\x85Ratb."
        ),
        "os.system",
    ),
    "INST": (lambda to: b"(" + line(touch(to)) + b"ios\nsystem\n.", "os.system"),
    "OBJ": (lambda to: b"(cos\nsystem\n" + line(touch(to)) + b"o.", "os.system"),
    "EXT1": (
        lambda to: b"\x80\x02\x82" + bytes([EXTENSION]) + short(touch(to)) + b"\x85R.",
        "the pickle instruction EXT1",
    ),
    "EXT4": (
        lambda to: b"\x80\x02\x84" + struct.pack("<i", EXTENSION) + short(touch(to)) + b"\x85R.",
        "the pickle instruction EXT4",
    ),
}

# Misuse of what is allowed, and attempts to reach the reader's own objects.
BLUNT: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "dotted name": (
        lambda to: b"\x80\x04" + short("collections") + short("OrderedDict.__init__") + b"\x93.",
        r"collections\.OrderedDict\.__init__",
    ),
    "INST of an allowed name": (
        lambda to: b"(icollections\nOrderedDict\n.",
        r"collections\.OrderedDict",
    ),
    "OBJ of an allowed name": (
        lambda to: b"\x80\x02(ccollections\nOrderedDict\no.",
        "the pickle instruction OBJ",
    ),
    "NEWOBJ of an allowed name": (
        lambda to: b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        "the pickle instruction NEWOBJ",
    ),
    "call of numpy.ndarray": (
        lambda to: b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85\x85R.",
        "a call of numpy.ndarray",
    ),
    "call of a text": (
        lambda to: b"\x80\x02" + short("os.system") + short(touch(to)) + b"\x85R.",
        "a call of str",
    ),
    "BUILD on a name": (
        lambda to: b"\x80\x02cnumpy\ndtype\n}" + short("build") + short("x") + b"sb.",
        r"numpy\.dtype\.__setstate__",
    ),
    "BUILD on a list": (lambda to: b"\x80\x02]}b.", r"list\.__setstate__"),
    "__setstate__ of a class": (
        lambda to: pickle.dumps(Call(Path, "x", state={"_str": str(to)})),
        r"pathlib.*Path",
    ),
    "array of another class": (
        lambda to: RECONSTRUCT + b"dtype\nK\x00\x85U\x01b\x87R.",
        "an array of another class than numpy.ndarray",
    ),
    "another codec": (
        lambda to: b"\x80\x02c_codecs\nencode\n" + short("x") + short("zip") + b"\x86R.",
        "another encoding than latin1",
    ),
    "persistent id": (
        lambda to: b"\x80\x02" + short("os.system") + b"Q.",
        "an object outside the file|a whole pickled model",
    ),
    "set": (lambda to: pickle.dumps({"x": {1, 2}}), "the pickle instruction EMPTY_SET"),
    "control characters": (
        lambda to: b"\x80\x04" + short("os\n\x1b[2J") + short("x") + b"\x93.",
        r"os\\n\\x1b\[2J\.x",
    ),
}


def bare(payload: bytes) -> bytes:
    return payload


def npy(payload: bytes) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + payload


def npz(payload: bytes) -> bytes:
    return zipped({"weights.npy": npy(payload)})


def torch_zip(payload: bytes) -> bytes:
    return zipped({"m/data.pkl": payload, "m/version": b"3\n", "m/data/0": bytes(64)})


def torch_legacy(payload: bytes) -> bytes:
    parts = [pickle.dumps(part, 2) for part in (MAGIC, VERSION, {"little_endian": True})]
    return b"".join([*parts, payload, pickle.dumps([], 2)])


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@contextmanager
def extension() -> Iterator[None]:
    module, name = SYSTEM.split(".")
    copyreg.add_extension(module, name, EXTENSION)  # only now: pickle.dumps would use it
    try:
        yield
    finally:
        copyreg.remove_extension(module, name, EXTENSION)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize("wrap", [bare, npy, npz, torch_zip, torch_legacy])
@pytest.mark.parametrize("attack", [*SHARP, *BLUNT])
def test_refused_by_name_and_nothing_runs(
    tmp_path: Path, attack: str, wrap: Callable[[bytes], bytes]
) -> None:
    payload, named = {**SHARP, **BLUNT}[attack]
    sentinel = tmp_path / "sentinel"
    path = tmp_path / "weights.pth"
    path.write_bytes(wrap(payload(sentinel)))
    with extension(), pytest.raises(WeightsError) as raised:
        read(path)
    message = str(raised.value)
    assert not sentinel.exists()
    assert re.search(named, message), message
    assert message.startswith(f"{path} asks for ")
    assert "refused: nothing was executed" in message
    assert "\n" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("attack", SHARP)
def test_the_payloads_are_sharp(tmp_path: Path, attack: str) -> None:
    sentinel = tmp_path / "sentinel"
    payload = SHARP[attack][0](sentinel)
    with extension(), suppress(Exception):  # what the call returns fits nowhere
        pickle.loads(payload, encoding="latin1")
    assert sentinel.exists()


def test_state_dict_attributes_are_dropped(tmp_path: Path) -> None:
    """PyTorch sets `_metadata` on a state dict; whatever is set there has no effect."""
    attributes = b"}(" + short("__class__") + short("x") + short("items") + short("y") + b"u"
    path = tmp_path / "w.pkl"
    path.write_bytes(b"\x80\x02ccollections\nOrderedDict\n)R" + attributes + b"b.")
    with pytest.raises(WeightsError, match="holds no arrays"):
        read(path)
