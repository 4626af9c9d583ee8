"""PyTorch's layout since 1.6: a zip archive with `data.pkl` and one `data/KEY` a storage."""

from __future__ import annotations

import io
import zipfile
from typing import IO

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.limits import check_declared
from dlmie.files.number_types import ByteOrder
from dlmie.weights.containers import flatten
from dlmie.weights.torch_tensors import TorchUnpickler

# PyTorch writes 3 and reads up to 10.
NEWEST_VERSION = 10


def members(file: IO[bytes]) -> list[str]:
    """The names in a zip archive; `file` is rewound."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    file.seek(0)
    return names


def read_torch_zip(file: IO[bytes], size: int) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of the one inside a checkpoint, by name."""
    with zipfile.ZipFile(file) as archive:
        names = frozenset(archive.namelist())  # asked for each storage, of which there are many
        declared = sum(member.file_size for member in archive.infolist())
        check_declared(declared, size, WeightsError)
        folder = next(name for name in names if name.endswith("/data.pkl")).removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise WeightsError(
                "is a TorchScript program; save its weights alone: torch.save(m.state_dict(), path)"
            )

        def text(name: str, default: str) -> str:
            member = folder + name
            return archive.read(member).decode("ascii").strip() if member in names else default

        version = int(text("version", "3"))
        if version > NEWEST_VERSION:
            raise WeightsError(
                f"is in version {version} of PyTorch's layout; dlmie reads up to {NEWEST_VERSION}: "
                "save it with an older PyTorch, or as .safetensors"
            )
        byteorder: ByteOrder = "big" if text("byteorder", "little") == "big" else "little"
        pickled = archive.read(f"{folder}data.pkl")
        unpickler = TorchUnpickler(io.BytesIO(pickled), len(pickled))
        tree = unpickler.load()
        for key, storage in unpickler.storages.items():
            member = f"{folder}data/{key}"
            if member not in names:
                raise WeightsError(f"is damaged: its storage {ascii(key)[:40]} is missing")
            storage.fill(archive.read(member), byteorder)
    return flatten(tree)
