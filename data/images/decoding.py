"""Images of any kind read as RGB bytes."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlmie.data.images.pixels import ImageError

if TYPE_CHECKING:  # PIL is imported by the functions that need it
    import PIL.Image

ImageSource: TypeAlias = "str | Path | bytes | np.ndarray | PIL.Image.Image"

#: Images with more pixels than this are refused: most are mistakes or attacks, and decoding one
#: takes more than half a gigabyte.  It is the limit at which PIL, too, refuses.
MAX_PIXELS = 178_956_970

# PIL announces large images and damaged metadata as warnings.  We refuse the first ourselves and
# do not care for the second, but Python's filters belong to the whole process: change them briefly,
# one thread at a time.
_FILTERS = threading.Lock()


def load_image(source: ImageSource) -> np.ndarray:
    """Read an image of any kind as RGB bytes.

    Grey and palette images become RGB; transparent ones are laid over white; CMYK is converted;
    16-bit is reduced to 8; the EXIF orientation is applied; of an animation the first frame counts.

    Parameters
    ----------
    source
        A path, the bytes of an image file, a PIL image, or an array: ``uint8`` or ``bool``,
        ``uint16`` (0..65535), other integers within 0..255, or floats within **0..1**, of shape
        (H, W), (H, W, 1), (H, W, 2) grey + alpha, (H, W, 3) or (H, W, 4) RGB + alpha.

    Returns
    -------
    np.ndarray
        (H, W, 3) ``uint8``, RGB.

    Raises
    ------
    ImageError
        One line that names the file and what is wrong with it.

    Examples
    --------
    >>> load_image(np.full((2, 3), 0.5)).shape
    (2, 3, 3)
    """
    import PIL.Image

    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, PIL.Image.Image):
        return _from_pil(source, "the image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise ImageError("the image is empty (0 bytes)")
        return _decode(io.BytesIO(source), "the image")
    if not isinstance(source, (str, Path)):
        raise ImageError(
            f"an image is a path, bytes, an array or a PIL image, not {type(source).__name__}"
        )
    path = Path(source)
    if path.is_dir():
        raise ImageError(f"{path}: is a folder, not an image")
    try:
        if path.stat().st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb") as file:
            return _decode(file, str(path))
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from None


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Rows and columns of an image file by its header; None where it cannot be read."""
    import PIL.Image

    try:
        with _quiet(), PIL.Image.open(path) as image:
            width, height = image.size
            turned = _orientation_of(image) >= 5
    except Exception:  # a damaged header can upset a decoder in any way
        return None
    return (width, height) if turned else (height, width)


def _decode(file: Any, name: str) -> np.ndarray:
    import PIL.Image

    try:
        with _quiet():
            image = PIL.Image.open(file)
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{name}: is not an image that can be read") from None
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{name}: has more than {MAX_PIXELS / 1e6:.0f} million pixels") from None
    except Exception as error:  # a damaged header can upset a decoder in any way
        raise ImageError(f"{name}: cannot be read as an image ({_line(error)})") from None
    with image:
        return _from_pil(image, name)


def _from_pil(image: PIL.Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}×{height} is more than {MAX_PIXELS / 1e6:.0f} million pixels; "
            "make it smaller first"
        )
    try:
        image.load()
        orientation = _orientation(image)
        pixels = _pil_to_rgb(image)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        raise ImageError(f"{name}: {width}×{height} needs more memory than there is") from None
    except Exception as error:  # truncated or damaged data can upset a decoder in any way
        raise ImageError(f"{name}: is damaged or truncated ({_line(error)})") from None
    return np.ascontiguousarray(_TURNS[orientation](pixels))


# EXIF orientation 1..8 → the array operation that puts the picture upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


def _orientation(image: PIL.Image.Image) -> int:
    with _quiet():
        return _orientation_of(image)


def _orientation_of(image: PIL.Image.Image) -> int:
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # metadata that cannot be parsed says nothing; the pixels are fine
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _pil_to_rgb(image: PIL.Image.Image) -> np.ndarray:
    mode = image.mode
    if mode.startswith("I") or mode == "F":  # 16-bit and 32-bit grey: PIL would clip, not scale
        values = np.asarray(image)
        return _from_array(values.astype(np.float64) if mode == "F" else _as_uint16(values))
    if "transparency" in image.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        return _over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image if mode == "RGB" else image.convert("RGB"))


def _as_uint16(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"grey values {values.min()}..{values.max()} are outside 0..65535")
    return values.astype(np.uint16)


def _from_array(values: np.ndarray) -> np.ndarray:
    """Turn an array of pixels of any supported type and shape into (H, W, 3) uint8."""
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise ImageError(
            f"an image array has shape (H, W) or (H, W, 1, 2, 3 or 4 channels), not {values.shape}"
        )
    if values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise ImageError(f"{values.shape[1]}×{values.shape[0]} is more than {MAX_PIXELS} pixels")
    values = _to_bytes(values)
    channels = values.shape[2]
    if channels in (1, 2):  # grey, with or without alpha
        alpha = values[:, :, 1:]
        values = np.concatenate([np.repeat(values[:, :, :1], 3, axis=2), alpha], axis=2)
    return _over_white(values) if channels in (2, 4) else np.ascontiguousarray(values)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values.copy()
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        return np.rint(values / 257.0).astype(np.uint8)  # 65535 / 257 == 255
    if np.issubdtype(values.dtype, np.integer):
        if values.min() < 0 or values.max() > 255:
            raise ImageError(f"pixels {values.min()}..{values.max()} are outside 0..255")
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= 1.0):  # also catches not-a-number
            raise ImageError(
                f"float pixels must lie in 0..1, these are {low:g}..{high:g}; "
                "for 0..255 convert to uint8 first"
            )
        return np.rint(values.astype(np.float64) * 255.0).astype(np.uint8)
    raise ImageError(f"an image array is uint8 or float in 0..1, not {values.dtype}")


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay (H, W, 4) uint8 over a white page: (H, W, 3) uint8."""
    alpha = rgba[:, :, 3:].astype(np.float32) / np.float32(255)
    colour = rgba[:, :, :3].astype(np.float32)
    return np.rint(colour * alpha + np.float32(255) * (1 - alpha)).astype(np.uint8)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _line(error: BaseException) -> str:
    """Give an error's first line, or its kind where it has none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__
