"""Between photographs and what a network reads, at any size: scaling without squashing."""

from __future__ import annotations

import numpy as np

from dlmie.data.images import ImageSource, Preprocessing, load_alpha, load_image, resize_image
from dlmie.errors import DlmieError
from dlmie.graph.network import Network

Size = int | tuple[int, int]


def as_pair(size: Size) -> tuple[int, int]:
    """``224`` → ``(224, 224)``; rows and columns stay as they are."""
    rows, columns = (size, size) if isinstance(size, int) else size
    return int(rows), int(columns)


def channel_order(preprocessing: Preprocessing) -> list[int]:
    """For each channel of the network, the channel of the RGB picture."""
    return [0, 1, 2] if preprocessing.channels == "RGB" else [2, 1, 0]


def valid_range(
    preprocessing: Preprocessing, dtype: str = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """What black and white are for the network: two arrays (3, 1, 1), its lowest and highest."""
    mean = np.asarray(preprocessing.mean).reshape(3, 1, 1)
    scale = np.asarray(preprocessing.scale).reshape(3, 1, 1)
    return ((0 - mean) / scale).astype(dtype), ((255 - mean) / scale).astype(dtype)


def pixel_size(preprocessing: Preprocessing, dtype: str = "float32") -> np.ndarray:
    """How much one grey level of 0..255 is for the network: (3, 1, 1)."""
    return (1 / np.asarray(preprocessing.scale)).reshape(3, 1, 1).astype(dtype)


def to_network(pixels: np.ndarray, network: Network) -> np.ndarray:
    """Pixels (…, H, W, 3) uint8, RGB → network units (…, 3, H, W), at the size they have."""
    preprocessing, dtype = network.preprocessing, network.input.type.dtype
    planes = np.moveaxis(pixels[..., channel_order(preprocessing)], -1, -3).astype(dtype)
    low, _ = valid_range(preprocessing, dtype)
    return np.ascontiguousarray(planes * pixel_size(preprocessing, dtype) + low)


def load_pixels(
    image: ImageSource, size: Size | None = None, *, longer: int | None = None
) -> np.ndarray:
    """Read an image as pixels (H, W, 3): squashed to ``size``, or no side above ``longer``."""
    if size is not None:
        return load_image(image, as_pair(size))
    pixels = load_image(image)
    if longer is not None and max(pixels.shape[:2]) > longer:
        factor = longer / max(pixels.shape[:2])
        rows, columns = (max(1, round(side * factor)) for side in pixels.shape[:2])
        return resize_image(pixels, (rows, columns))
    return pixels


def load_opacity(image: ImageSource, size: tuple[int, int]) -> np.ndarray | None:
    """The opacity of an image at another size, (H, W) uint8; None where it is opaque."""
    alpha = load_alpha(image)
    if alpha is None:
        return None
    resized = resize_planes(alpha.astype(np.float64), size)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)


def resize_planes(planes: np.ndarray, size: Size) -> np.ndarray:
    """Linear interpolation of (…, H, W) planes to another size, without rounding."""
    from skimage.transform import resize

    rows, columns = as_pair(size)
    if planes.shape[-2:] == (rows, columns):
        return planes
    stacked = np.moveaxis(planes.reshape(-1, *planes.shape[-2:]), 0, -1)
    result = resize(
        stacked.astype(np.float64),
        (rows, columns),
        order=1,
        mode="edge",
        anti_aliasing=rows < planes.shape[-2] or columns < planes.shape[-1],
        preserve_range=True,
    )
    shaped = np.moveaxis(result, -1, 0).reshape(*planes.shape[:-2], rows, columns)
    return np.ascontiguousarray(shaped, dtype=planes.dtype)


def check_size(network: Network, size: Size) -> None:
    """Raise DlmieError when images of ``size`` are too small for the network."""
    rows, columns = as_pair(size)
    minimum = getattr(network, "minimum", 1)
    if min(rows, columns) < minimum:
        raise DlmieError(
            f"{network.name} needs images of at least {minimum} × {minimum} pixels, "
            f"not {rows} × {columns}"
        )
