"""Between photographs and what a network reads, at any size: scaling without squashing."""

from __future__ import annotations

import numpy as np

from dlmie.data.images import normalize
from dlmie.errors import DlmieError
from dlmie.graph.network import Network

Size = int | tuple[int, int]


def as_pair(size: Size) -> tuple[int, int]:
    """``224`` → ``(224, 224)``; rows and columns stay as they are."""
    rows, columns = (size, size) if isinstance(size, int) else size
    return int(rows), int(columns)


def to_network(pixels: np.ndarray, network: Network) -> np.ndarray:
    """Pixels (…, H, W, 3) uint8, RGB → network units (…, 3, H, W), at the size they have."""
    return normalize(pixels, network.preprocessing, network.input.type.dtype)


def check_size(network: Network, size: Size) -> None:
    """Raise DlmieError when images of ``size`` are too small for the network."""
    rows, columns = as_pair(size)
    minimum = getattr(network, "minimum", 1)
    if min(rows, columns) < minimum:
        raise DlmieError(
            f"{network.name} needs images of at least {minimum} × {minimum} pixels, "
            f"not {rows} × {columns}"
        )
