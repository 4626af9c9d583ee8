"""Write the small weight files of `tests/golden/weights/`, in the layouts that real ones have.

Needs torch and safetensors (the tests that read the files need neither):

    python tests/golden/make_weights.py

Only `torch_legacy.pth` differs from run to run: its storages are named by memory addresses.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "weights"


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: texts and an array's bytes are both `str`."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)
    write: Callable[[bytes], Any]
    memoize: Callable[[Any], None]

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=2)

    def save_str(self, value: Any) -> None:
        data = value.encode("ascii") if isinstance(value, str) else value
        if len(data) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        else:
            self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    dispatch[str] = save_str
    dispatch[bytes] = save_str


def tensors() -> OrderedDict[str, torch.Tensor]:
    """Every element type and every way in which a tensor can lie on its storage."""
    generator = torch.Generator().manual_seed(0)
    row = torch.arange(12, dtype=torch.float64)
    return OrderedDict(
        {
            "conv.weight": torch.randn(4, 3, 3, 3, generator=generator).to(
                memory_format=torch.channels_last
            ),
            "conv.bias": torch.randn(4, generator=generator).half(),
            "norm.weight": torch.randn(4, generator=generator).bfloat16(),
            "shared.middle": row[2:8],
            "shared.transposed": row.reshape(3, 4).t(),
            "expanded": torch.tensor([2.5]).expand(3),
            "steps": torch.tensor(7),
            "empty": torch.zeros(0, 3),
            "mask": torch.tensor([True, False, True]),
            "bytes": torch.tensor([1, 255], dtype=torch.uint8),
            "signed": torch.tensor([-1, 127], dtype=torch.int8),
            "short": torch.tensor([-2, 300], dtype=torch.int16),
            "int": torch.tensor([-3, 70_000], dtype=torch.int32),
            "complex": torch.tensor([1 + 2j, -3j], dtype=torch.complex64),
        }
    )


def vgg_like() -> dict[str, list[np.ndarray]]:
    """The layout of `vgg16.npy`: name → [W, b], W (height, width, in, out)."""
    rng = np.random.default_rng(0)
    return {
        "conv1_1": [
            rng.normal(size=(3, 3, 3, 2)).astype(np.float32),
            rng.normal(size=2).astype(np.float32),
        ],
        "fc8": [
            np.asfortranarray(rng.normal(size=(4, 5)).astype(np.float32)),
            rng.normal(size=5).astype(">f4"),
        ],
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    state = tensors()
    checkpoint = {
        "epoch": 3,
        "arch": "tiny",
        "state_dict": OrderedDict((f"module.{name}", value) for name, value in state.items()),
        "best": np.float64(0.5),
    }
    torch.save(state, FOLDER / "torch_zip.pth")
    torch.save(state, FOLDER / "torch_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(checkpoint, FOLDER / "torch_checkpoint.pth")
    contiguous = {name: value.contiguous().clone() for name, value in state.items()}
    save_file(contiguous, FOLDER / "model.safetensors", metadata={"format": "pt"})
    as_numpy = {
        name: value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
        for name, value in state.items()
    }
    np.savez_compressed(FOLDER / "expected.npz", **as_numpy)  # type: ignore[arg-type]

    vgg = vgg_like()
    whole = np.empty((), object)
    whole[()] = vgg
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": ()}
    )
    Python2Pickler(buffer).dump(whole)
    (FOLDER / "vgg16_python2.npy").write_bytes(buffer.getvalue())
    flat = {f"{name}/{i}": part for name, parts in vgg.items() for i, part in enumerate(parts)}
    np.savez_compressed(FOLDER / "vgg16_expected.npz", **flat)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
