"""Damage for files, drawn from a seed: bytes that change, JSON values of other kinds, headers."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# What stands where something else was expected.
_ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308),
    *(float("inf"), float("-inf"), float("nan"), "", "x", "\0", "\udce9", "../x", "/etc/hostname"),
    *("a" * 300, "1", "[", "é", "\x1b[2J", "\u202e", [], {}, [[]], [None], {"": 1}, ["x"], [0]),
    *([1, 2, 3], {"name": "x"}, {"kind": "x"}),
)
# Bytes that formats look at: lengths, signs, separators, quotation marks.
_TOKENS = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\n", b"\r\n", b'"'),
    *(b",", b"\t", b"|", b"#", b"{", b"}", b"[", b"]", b"\\", b"\xef\xbb\xbf", b"\xff\xfe", b"'"),
    *(b"1e999", b"-1", b"99999999999", b"null", b"\xe2\x80\xa8", b"://", b"../", b"%s", b"$x$"),
)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed, doubled, moved or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 8, 64, 512))
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[place % len(data)] = rng.randrange(256)
        elif kind == 2:
            data[place:place] = rng.choice(_TOKENS)
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            start = rng.randrange(len(data) + 1)
            data[place:place] = data[start : start + length]
        elif kind == 5:
            data[place : place + length] = bytes(min(length, len(data) - place))
        else:
            del data[place:]
    return bytes(data)


def mutate_document(document: Any, rng: random.Random) -> Any:
    """A JSON document with a value of another kind, a key less, or nested without end."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return rng.choice(_ODD)
        parent, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1:
            value: Any = "x"
            for _ in range(rng.choice((3, 50))):
                value = [value]
            parent[key] = value
        elif kind == 2:
            other, name = rng.choice(places)
            parent[key] = copy.deepcopy(other[name]) if name in _keys(other) else None
        elif kind == 3 and isinstance(parent[key], (int, float)):
            parent[key] = parent[key] * rng.choice((-1, 0, 2, 1000, 10**12)) + rng.choice((0, 1))
        else:
            parent[key] = rng.choice(_ODD)
    return document


def _keys(parent: Any) -> Any:
    return parent if isinstance(parent, dict) else range(len(parent))


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document: the mapping or list, and the key or number."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    if isinstance(document, (dict, list)):
        for key, value in inside:
            yield document, key
            if isinstance(value, (dict, list)):
                yield from _places(value)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """A JSON file with another document, or other bytes."""
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    document = mutate_document(json.loads(content), rng)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def mutate_hdf5(path: Path, rng: random.Random) -> None:
    """An HDF5 file with another header, other arrays, or other bytes."""
    import h5py

    if rng.random() < 0.3:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        if rng.random() < 0.6 and "header" in file:
            _replace_header(file, rng)
            return
        name = rng.choice(names)
        item = file[name]
        kind = rng.randrange(5)
        if kind == 0 or not isinstance(item, h5py.Dataset):
            del file[name]
        elif kind == 1:
            replacement = rng.choice(_ARRAYS)()
            del file[name]
            file[name] = replacement
        elif kind == 2 and item.dtype.kind in "iuf" and item.size:
            values = item[()]
            flat = np.atleast_1d(values).reshape(-1)
            low, high = (-1e30, 1e30) if item.dtype.kind == "f" else (0, 127)
            with np.errstate(over="ignore"):
                flat[rng.randrange(flat.size)] = rng.choice((low, high, 0))
            del file[name]
            file[name] = flat.reshape(np.shape(values))
        elif kind == 3 and item.ndim:
            values = item[()]
            del file[name]
            file[name] = values[: len(values) // 2]
        else:
            values = item[()]
            del file[name]
            file[name] = np.expand_dims(values, 0) if item.dtype.kind in "iuf" else np.ones(3)


_ARRAYS: tuple[Callable[[], np.ndarray], ...] = (
    lambda: np.zeros(0),
    lambda: np.array(7),
    lambda: np.full(5, np.nan),
    lambda: np.full((2, 3), -1, np.int64),
    lambda: np.frombuffer(b'["x", 1, null]', np.uint8),
    lambda: np.frombuffer(b"\xff\xfe", np.uint8),
    lambda: np.array([b"text"]),
)


def _replace_header(file: Any, rng: random.Random) -> None:
    import h5py

    stored = file["header"][()]
    text = stored.tobytes() if isinstance(stored, np.ndarray) else stored
    content = mutate_json(bytes(text), rng)
    old = h5py.check_string_dtype(file["header"].dtype) is not None
    del file["header"]
    if old:
        text = content.replace(b"\0", b" ")  # which HDF5's text cannot hold
        file.create_dataset("header", data=text, dtype=h5py.string_dtype())
    else:
        file["header"] = np.frombuffer(content, np.uint8)
