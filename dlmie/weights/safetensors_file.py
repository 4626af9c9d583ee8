"""`.safetensors`: 8 bytes with the length of a JSON header, the header, the arrays end to end."""

from __future__ import annotations

import json
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.arrays import array_over, checked_shape, read_exactly
from dlmie.files.number_types import from_stored, stored_dtype

MAX_HEADER = 100_000_000  # bytes; the format's own limit

DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
}


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes starts with a header's length and an opening brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(size, MAX_HEADER)


def read_safetensors(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The arrays by name, in the order of their data."""
    length = int.from_bytes(read_exactly(file, 8, size), "little")
    if length > MAX_HEADER:
        raise WeightsError(f"has a header of {length:,} bytes; refused")
    text = read_exactly(file, length, size).decode()
    header = json.loads(text, object_pairs_hook=_without_repeats)
    header.pop("__metadata__", None)
    data = memoryview(read_exactly(file, size - 8 - length, size))

    arrays = {}
    reached = 0  # every byte belongs to one array: no gap hides data, no two arrays overlap
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = checked_shape(entry["data_offsets"])
        if start != reached or stop < start or stop > len(data):
            raise WeightsError(
                f"is damaged: the data of {name!r} lie at {start:,} to {stop:,}, expected from "
                f"{reached:,} on in {len(data):,} bytes"
            )
        reached = stop
        arrays[name] = _array(name, entry, data[start:stop])
    if reached != len(data):
        raise WeightsError(f"is damaged: {len(data) - reached:,} bytes belong to no array")
    return arrays


def _array(name: str, entry: dict[str, Any], data: memoryview) -> np.ndarray:
    kind = DTYPES.get(entry["dtype"])
    if kind is None:
        raise WeightsError(f"holds {name!r} as {ascii(entry['dtype'])[:20]}, which NumPy lacks")
    stored = array_over(data, stored_dtype(kind, "little"), entry["shape"])
    return from_stored(stored, kind)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise WeightsError("is damaged: its header has the same name twice")
    return result
