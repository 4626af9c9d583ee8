"""What PyTorch's two layouts share: a pickle of tensors, which are views of numbered storages."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import IO, Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.arrays import checked_shape
from dlmie.files.number_types import ByteOrder, from_stored, stored_dtype
from dlmie.files.pickles import Deferred, Named, RestrictedUnpickler, name_of

# An expanded tensor (stride 0) may have more elements than its storage, but no end of them.
MAX_EXPANDED = 2**24

STORAGES = {
    "torch.BoolStorage": "bool",
    "torch.ByteStorage": "uint8",
    "torch.CharStorage": "int8",
    "torch.ShortStorage": "int16",
    "torch.IntStorage": "int32",
    "torch.LongStorage": "int64",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.FloatStorage": "float32",
    "torch.DoubleStorage": "float64",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
}


class Storage:
    """A row of numbers that tensors are views of; the layout's reader fills it."""

    def __init__(self, kind: str, length: int) -> None:
        self.kind = kind
        self.length = length
        self.numbers: np.ndarray | None = None  # (length,)

    @property
    def nbytes(self) -> int:
        return self.length * stored_dtype(self.kind, "little").itemsize

    def fill(self, data: bytes, byteorder: ByteOrder) -> None:
        """Take the numbers from the bytes that the file has for them."""
        if len(data) != self.nbytes:
            raise WeightsError(
                f"is damaged: a storage of {self.nbytes:,} bytes has {len(data):,} in the file"
            )
        stored = np.frombuffer(data, stored_dtype(self.kind, byteorder))
        self.numbers = from_stored(stored, self.kind)


class Tensor(Deferred):
    """A view of a storage: offset and strides count elements."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        if not isinstance(storage, Storage):
            raise WeightsError("is damaged: a tensor without a storage")
        self.storage = storage
        (self.offset,) = checked_shape((offset,))
        self.shape, self.strides = checked_shape(shape), checked_shape(strides)
        if len(self.shape) != len(self.strides):
            raise WeightsError("is damaged: a tensor whose strides do not fit its shape")
        steps = zip(self.shape, self.strides, strict=True)
        last = self.offset + sum((n - 1) * step for n, step in steps)
        elements = math.prod(self.shape)
        if elements and (last >= storage.length or elements > max(storage.length, MAX_EXPANDED)):
            raise WeightsError(
                f"is damaged: a tensor of shape {self.shape} reaches outside its storage of "
                f"{storage.length:,} elements"
            )

    def value(self) -> np.ndarray:
        numbers = self.storage.numbers
        if numbers is None:
            raise WeightsError("is damaged: a storage is missing")
        if not math.prod(self.shape):
            return np.empty(self.shape, numbers.dtype)
        width = numbers.dtype.itemsize
        view: np.ndarray = np.ndarray(
            self.shape,
            numbers.dtype,
            numbers.data,
            self.offset * width,
            tuple(step * width for step in self.strides),
        )
        view.flags.writeable = False
        return view


class TorchUnpickler(RestrictedUnpickler):
    """The restricted reader, which also knows tensors; afterwards `storages` wait to be filled."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size)
        self.storages: dict[str, Storage] = {}

    def builders(self) -> dict[str, Callable[..., Any] | None]:
        return {
            **super().builders(),
            **dict.fromkeys(STORAGES),
            "torch.Size": checked_shape,
            "torch._utils._rebuild_tensor": Tensor,
            "torch._utils._rebuild_tensor_v2": lambda *args: Tensor(*args[:4]),
            "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        }

    def persistent_load(self, pid: Any) -> Storage:
        """A storage, from ("storage", type, key, device, length) and perhaps a view."""
        if not isinstance(pid, tuple) or len(pid) < 5 or name_of(pid[0]) != "storage":
            raise WeightsError(
                "asks for a whole pickled model; refused: nothing was executed (save its state "
                "dict instead: torch.save(model.state_dict(), path))"
            )
        _, named, key, _device, length, *view = pid
        if not isinstance(named, Named) or named.name not in STORAGES:
            raise WeightsError("is damaged: a storage of unknown type")
        if any(part is not None for part in view):
            raise WeightsError(
                "holds views of storages, which PyTorch gave up long ago; save it again"
            )
        kind, (length,) = STORAGES[named.name], checked_shape((length,))
        storage = self.storages.setdefault(name_of(key), Storage(kind, length))
        if (storage.kind, storage.length) != (kind, length):
            raise WeightsError("is damaged: one storage is described in two ways")
        return storage
