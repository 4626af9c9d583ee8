"""Photographs in, network inputs out: the only code of dlmie that reads, resizes or scales pixels.

Preparing, training, captioning and picture making all come through :func:`load_image`,
:func:`resize_image` and :func:`preprocess`.  A second way to do any of the three is the usual
reason why a captioner that trained well says the same sentence about every photograph.

Pixels between these functions are always ``uint8`` of shape ``(height, width, 3)``, RGB, 0..255.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlmie.errors import DataError

if TYPE_CHECKING:  # PIL and scikit-image are imported by the functions that need them
    import PIL.Image

ImageSource: TypeAlias = "str | Path | bytes | np.ndarray | PIL.Image.Image"

#: Images with more pixels than this are refused: most are mistakes or attacks, and decoding one
#: takes more than half a gigabyte.  It is the limit at which PIL, too, refuses.
MAX_PIXELS = 178_956_970

#: Files of a folder that :func:`find_images` takes for images (compared in lower case).
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".jp2", ".tga", ".ico"}
)

# A strip of this many values is resized at a time: it stays in the processor's cache, and the
# memory for huge images is bounded.
_STRIP = 500_000

# PIL announces large images and damaged metadata as warnings.  We refuse the first ourselves and
# do not care for the second, but Python's filters belong to the whole process: change them briefly,
# one thread at a time.
_FILTERS = threading.Lock()


class ImageError(DataError):
    """An image cannot be used: missing, empty, truncated, unreadable, too large or out of range."""


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


def resize_image(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Resize to exactly ``size``; the aspect ratio is not kept.

    Linear interpolation (order 1) after Gaussian anti-aliasing where the image shrinks, as by
    :func:`skimage.transform.resize`, rounded to the nearest byte.  Both are separable, so height
    and width are resized one after the other.

    Parameters
    ----------
    image
        (H, W, 3) ``uint8``.
    size
        Pixels: one number for a square, or (height, width).

    Returns
    -------
    np.ndarray
        (height, width, 3) ``uint8``; the input itself when it already has this size.

    Examples
    --------
    >>> resize_image(np.zeros((30, 40, 3), np.uint8), 8).shape
    (8, 8, 3)
    """
    _check_pixels(image)
    if image.ndim != 3:
        raise ImageError(f"resize_image takes one image (H, W, 3), not shape {image.shape}")
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if height < 1 or width < 1:
        raise ImageError(f"an image cannot be resized to {height}×{width} pixels")
    if image.shape[:2] == (height, width):
        return image
    before = image.shape[1]
    rows = _resize_rows(image.reshape(image.shape[0], before * 3), height)
    columns = rows.reshape(height, before, 3).transpose(1, 0, 2).reshape(before, height * 3)
    result = _resize_rows(columns, width).reshape(width, height, 3).transpose(1, 0, 2)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Preprocessing:
    """What an encoder expects of its input: ``(pixels - mean) / scale`` at ``size × size``.

    Attributes
    ----------
    size
        Height and width in pixels.
    mean, scale
        One number a channel, in 0..255 pixel units, in the order of ``channels``.
    channels
        ``"RGB"`` or ``"BGR"``: the order in which the network takes them.

    Examples
    --------
    >>> Preprocessing(224, (127.0,) * 3, (128.0,) * 3).to_json()["channels"]
    'RGB'
    """

    size: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: str = "RGB"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", int(self.size))
        for name in ("mean", "scale"):  # lists come from JSON files
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not np.all(np.isfinite(values)):
                raise DataError(f"preprocessing: {name} must be three finite numbers, not {values}")
            object.__setattr__(self, name, values)
        if self.size < 1:
            raise DataError(f"preprocessing: size must be at least 1 pixel, not {self.size}")
        if min(self.scale) <= 0:
            raise DataError(f"preprocessing: scale must be positive, not {self.scale}")
        if self.channels not in ("RGB", "BGR"):
            raise DataError(f"preprocessing: channels must be RGB or BGR, not {self.channels!r}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``json.dump`` takes."""
        return {
            "size": self.size,
            "mean": list(self.mean),
            "scale": list(self.scale),
            "channels": self.channels,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Preprocessing:
        """Make it again from :meth:`to_json`'s answer."""
        return cls(value["size"], value["mean"], value["scale"], value["channels"])


def preprocess(image: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Turn pixels into the input of an encoder: resize, subtract the mean, divide by the scale.

    Parameters
    ----------
    image
        (…, H, W, 3) ``uint8``, RGB: one image or any batch of them.  Floats are refused, because
        an image that was scaled twice looks right and captions wrong.
    preprocessing
        What the encoder expects.

    Returns
    -------
    np.ndarray
        (…, 3, size, size) ``float32``.

    Examples
    --------
    >>> white = np.full((2, 8, 8, 3), 255, np.uint8)
    >>> x = preprocess(white, Preprocessing(4, (127,) * 3, (128,) * 3))
    >>> x.shape, float(x.max())
    ((2, 3, 4, 4), 1.0)
    """
    _check_pixels(image)
    size = preprocessing.size
    lead = image.shape[:-3]
    if image.shape[-3:-1] != (size, size):
        flat = image.reshape(-1, *image.shape[-3:])
        resized = np.empty((len(flat), size, size, 3), np.uint8)
        for index, one in enumerate(flat):
            resized[index] = resize_image(one, size)
        image = resized.reshape(*lead, size, size, 3)
    result = np.empty((*lead, 3, size, size), np.float32)
    for channel, source in enumerate(_channel_order(preprocessing)):
        plane = result[..., channel, :, :]
        np.subtract(image[..., source], np.float32(preprocessing.mean[channel]), out=plane)
        plane /= np.float32(preprocessing.scale[channel])
    return result


def deprocess(x: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Undo :func:`preprocess`: network input → pixels, clipped to 0..255 and never wrapped round.

    Parameters
    ----------
    x
        (…, 3, H, W), any float type and any H and W.  Not-a-number becomes black.
    preprocessing
        The one the input was made for.

    Returns
    -------
    np.ndarray
        (…, H, W, 3) ``uint8``, RGB.

    Examples
    --------
    >>> deprocess(np.full((3, 2, 2), 9.0), Preprocessing(2, (127,) * 3, (128,) * 3)).max()
    np.uint8(255)
    """
    if x.ndim < 3 or x.shape[-3] != 3:
        raise ImageError(f"deprocess takes (…, 3, H, W), not shape {x.shape}")
    result = np.empty((*x.shape[:-3], *x.shape[-2:], 3), np.uint8)
    for channel, source in enumerate(_channel_order(preprocessing)):
        plane = x[..., channel, :, :].astype(np.float64)
        plane = plane * preprocessing.scale[channel] + preprocessing.mean[channel]
        plane = np.nan_to_num(plane, nan=0.0, posinf=255.0, neginf=0.0)
        result[..., source] = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return result


def find_images(paths: Iterable[str | Path], recursive: bool = True) -> list[Path]:
    """List the images that files and folders stand for, each once.

    A file that is named is taken whatever its name; of a folder, the files with an image's suffix
    (:data:`SUFFIXES`), sorted, hidden ones left out, and those of its sub-folders if ``recursive``.

    Raises
    ------
    DataError
        If a path does not exist or a folder holds no image.

    Examples
    --------
    >>> find_images([])
    []
    """
    found: dict[Path, None] = {}  # a dict keeps the order and drops repetitions
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if path.is_dir():
            inside = sorted(_walk(path, recursive))
            if not inside:
                raise DataError(f"{path}: no image in this folder ({', '.join(sorted(SUFFIXES))})")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise DataError(f"{path}: no such file or folder")
    return list(found)


def save_image(path: str | Path, image: np.ndarray) -> Path:
    """Write pixels as PNG or JPEG, by the suffix; the file appears complete or not at all.

    Parameters
    ----------
    path
        Ends in ``.png``, ``.jpg`` or ``.jpeg``.  Missing folders are made.
    image
        (H, W, 3) or (H, W) ``uint8``.

    Returns
    -------
    Path
        The file written.
    """
    import PIL.Image

    path = Path(path)
    kind = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
    if kind is None:
        raise ImageError(f"{path}: an image is saved as .png or .jpg, not {path.suffix!r}")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ImageError(
            f"{path}: needs uint8 pixels (H, W, 3), not {image.dtype} of shape {image.shape}"
        )
    options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    with _replacing(path) as file:
        PIL.Image.fromarray(image).save(file, format=kind, **options)
    return path


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """Open a temporary file beside ``path`` that takes its name when the block ends well."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix + ".part")
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files that only the owner can read
        os.replace(temporary, path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent, name)


def _channel_order(preprocessing: Preprocessing) -> tuple[int, int, int]:
    """Give, for each channel of the network, the channel of the RGB picture."""
    return (0, 1, 2) if preprocessing.channels == "RGB" else (2, 1, 0)


def _check_pixels(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f"needs uint8 pixels in 0..255, not {kind}: use load_image first")
    if image.ndim < 3 or image.shape[-1] != 3 or 0 in image.shape[-3:]:
        raise ImageError(f"needs pixels of shape (…, H, W, 3), not {image.shape}")


def _resize_rows(values: np.ndarray, height: int) -> np.ndarray:
    """Resize along the first axis only: (H, n) → (height, n) float64."""
    before, count = values.shape
    if before == height:
        return values.astype(np.float64)
    weights = _resize_weights(before, height)
    strip = max(1, _STRIP // before)
    result = np.empty((height, count))
    for start in range(0, count, strip):
        part = values[:, start : start + strip].astype(np.float64, order="C")
        result[:, start : start + strip] = weights @ part
    return result


def _resize_weights(before: int, after: int) -> Any:
    """Give what scikit-image's resize does along one axis, as a sparse matrix (after, before).

    A Gaussian, then interpolation between the two nearest pixels, both mirrored at the ends.
    Applied as a matrix it filters only where an output is wanted: 20 times as fast for large
    photographs.
    """
    from scipy.sparse import csr_array

    deviation = max(0.0, (before / after - 1) / 2)  # of scikit-image's anti-aliasing
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    gauss = np.exp(-0.5 / deviation**2 * offsets**2) if reach else np.ones(1)
    gauss /= gauss.sum()
    place = (np.arange(after) + 0.5) * before / after - 0.5
    left = np.floor(place).astype(np.int64)[:, None]
    share = place[:, None] - left
    values = np.zeros((after, 2 * reach + 2))
    values[:, :-1] += (1 - share) * gauss
    values[:, 1:] += share * gauss
    period = max(1, 2 * (before - 1))
    columns = (left + np.arange(-reach, reach + 2)) % period
    columns = np.minimum(columns, period - columns)
    rows = np.broadcast_to(np.arange(after)[:, None], columns.shape)
    # Weights that fall on the same pixel are added up.
    return csr_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=(after, before))


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
    try:
        with _quiet():
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
