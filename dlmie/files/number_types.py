"""Number types that files name and NumPy may lack: how they are stored, what they become."""

from __future__ import annotations

from typing import Literal

import numpy as np

ByteOrder = Literal["little", "big"]

# bfloat16 is the upper half of a float32.
_STORED_AS = {"bfloat16": "uint16"}


def stored_dtype(kind: str, byteorder: ByteOrder) -> np.dtype:
    """The NumPy type in which a file has numbers of `kind`."""
    return np.dtype(_STORED_AS.get(kind, kind)).newbyteorder(byteorder)


def native(array: np.ndarray) -> np.ndarray:
    """The same numbers in this machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def from_stored(stored: np.ndarray, kind: str) -> np.ndarray:
    """Numbers of `kind`, in this machine's byte order, from what `stored_dtype` read."""
    if kind == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return native(stored)
