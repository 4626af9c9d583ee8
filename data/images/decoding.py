"""Images of any kind read as RGB bytes."""

from __future__ import annotations

import contextlib
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np

from dlmie.data.images.archives import member_of
from dlmie.data.images.arrays import rgb_from_array
from dlmie.data.images.decoded import Decoded
from dlmie.data.images.formats import add_heif, advice, readable_formats
from dlmie.data.images.pixels import ImageError, ImageWarning
from dlmie.data.images.resizing import as_shape, resize_image, resize_strips
from dlmie.text import bytes_text

if TYPE_CHECKING:  # PIL is imported by the functions that need it
    import PIL.Image

#: Images with more pixels than this are refused: most are mistakes or attacks.  It is the limit at
#: which PIL, too, refuses.
MAX_PIXELS = 178_956_970

#: Nor are strips read that are longer than this.
MAX_SIDE = 1_000_000

#: Images are refused whose decoding takes more memory than this, whatever is made of them.
MAX_BYTES = 760_000_000

# Bytes that PIL keeps of a pixel, by mode; and those that its decoders take for a while, measured.
_KEPT = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_DECODING = {"WEBP": 12, "AVIF": 6, "JPEG2000": 16, "TIFF": 7, "HEIF": 8}
_PROGRESSIVE = 6  # of a JPEG

# PIL announces large images and damaged metadata as warnings.  We refuse the first ourselves and
# do not care for the second, but Python's filters belong to the whole process: change them briefly,
# one thread at a time, and let no other thread warn meanwhile.
_FILTERS = threading.Lock()


@dataclass(frozen=True)
class ImageBytes:
    """An image file that lies nowhere, with a name for messages: standard input, a download."""

    content: bytes
    name: str

    def __str__(self) -> str:
        return self.name


ImageSource: TypeAlias = "str | Path | bytes | ImageBytes | np.ndarray | PIL.Image.Image"


def load_image(source: ImageSource, size: int | tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any kind as RGB bytes.

    Gray and palette images become RGB; transparent ones are laid over white; CMYK and LAB are
    converted; colors of a profile become sRGB; 16-bit is reduced to 8; the EXIF orientation is
    applied; of an animation the first frame counts.

    Parameters
    ----------
    source
        A path, also one that goes through a zip archive; the bytes of an image file
        (:class:`ImageBytes` gives them a name); a PIL image; or an array: ``uint8`` or ``bool``,
        ``uint16`` (0..65535), other integers within 0..255, or floats within **0..1**, of shape
        (H, W), (H, W, 1), (H, W, 2) gray + alpha, (H, W, 3) or (H, W, 4) RGB + alpha.
    size
        Resize it, as :func:`~dlmie.data.images.resize_image` does: the same pixels, but a large
        photograph is never held as a whole.

    Returns
    -------
    np.ndarray
        (H, W, 3) ``uint8``, RGB.

    Raises
    ------
    ImageError
        One line that names the file and what is wrong with it.

    Warns
    -----
    ImageWarning
        A color profile that cannot be used; 16-bit pixels that are all nearly black.

    Examples
    --------
    >>> load_image(np.full((2, 3), 0.5)).shape
    (2, 3, 3)
    """
    if isinstance(source, np.ndarray):
        pixels = _checked_array(source)
        return pixels if size is None else resize_image(pixels, size)
    with _opened(source) as (image, name):
        shape = None if size is None else as_shape(size)
        picture = _decoded(image, name, shape)
        with _one_line(image, name):
            if shape is not None and shape != picture.shape:
                pixels = resize_strips(picture.columns, picture.shape, shape)
            else:
                pixels = picture.pixels()
    for note in picture.notes:
        warn(f"{name}: {note}")
    return pixels


def load_with_alpha(source: ImageSource) -> tuple[np.ndarray, np.ndarray | None]:
    """Read an image and its opacity, decoded once.

    Returns
    -------
    tuple
        Its pixels as :func:`load_image` reads them, and its opacity, upright: (H, W) ``uint8``, or
        None where nothing is transparent.

    Raises
    ------
    ImageError
        See :func:`load_image`.

    Examples
    --------
    >>> load_with_alpha(np.zeros((2, 3, 3), np.uint8))[1] is None
    True
    """
    if isinstance(source, np.ndarray):
        pixels, alpha = _checked_array(source), _alpha_of_array(source)
    else:
        with _opened(source) as (image, name):
            picture = _decoded(image, name, None)
            with _one_line(image, name):
                pixels = picture.pixels()
                alpha = picture.alpha() if picture.transparent else None
        for note in picture.notes:
            warn(f"{name}: {note}")
    return pixels, None if alpha is None or (alpha == 255).all() else alpha


def _alpha_of_array(values: np.ndarray) -> np.ndarray | None:
    if values.ndim != 3 or values.shape[2] not in (2, 4):
        return None
    return rgb_from_array(values[:, :, -1])[:, :, 0]


def warn(text: str) -> None:
    """Give a line to Python's warnings, while no thread has silenced them."""
    with _FILTERS:
        warnings.warn(text, ImageWarning, stacklevel=3)


def _checked_array(values: np.ndarray) -> np.ndarray:
    if values.ndim in (2, 3) and values.shape[0] * values.shape[1] > MAX_PIXELS:
        raise ImageError(f"{values.shape[1]}×{values.shape[0]} is more than {MAX_PIXELS} pixels")
    return rgb_from_array(values)


@contextlib.contextmanager
def _opened(source: ImageSource) -> Iterator[tuple[PIL.Image.Image, str]]:
    """An image whose header was read, and its name for messages."""
    import PIL.Image

    if isinstance(source, PIL.Image.Image):
        yield source, "the image"
    elif isinstance(source, (bytes, bytearray, memoryview)):
        with _identified(io.BytesIO(_not_empty(source, "the image")), "the image") as image:
            yield image, "the image"
    elif isinstance(source, ImageBytes):
        with _identified(io.BytesIO(_not_empty(source.content, source.name)), source.name) as image:
            yield image, source.name
    elif isinstance(source, (str, Path)):
        with _open_file(source) as file, _identified(file, str(source)) as image:
            yield image, str(source)
    else:
        raise ImageError(
            f"an image is a path, bytes, an array or a PIL image, not {type(source).__name__}"
        )


def _not_empty(content: bytes | bytearray | memoryview, name: str) -> bytes:
    if not len(content):
        raise ImageError(f"{name}: is empty (0 bytes)")
    return bytes(content)


@contextlib.contextmanager
def _open_file(path: str | Path) -> Iterator[IO[bytes]]:
    if isinstance(path, str) and "://" in path:
        raise ImageError(
            f"{path}: is an address, and dlmie downloads nothing: save the image, and name its file"
        )
    try:
        member = member_of(Path(path))
        if member is not None:
            yield io.BytesIO(_not_empty(member.read(), str(path)))
            return
        status = Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{path}: is a folder, not an image")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe may wait forever
            raise ImageError(f"{path}: is not a regular file; to read a pipe, name -")
        if status.st_size == 0:
            raise ImageError(f"{path}: the file is empty (0 bytes)")
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be read ({reason})") from None


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Rows and columns of an image file by its header, upright; None where it cannot be read."""
    try:
        with _opened(path) as (image, _):
            width, height = image.size
            turned = _orientation(image) >= 5
    except ImageError:
        return None
    return (width, height) if turned else (height, width)


@contextlib.contextmanager
def _identified(file: IO[bytes], name: str) -> Iterator[PIL.Image.Image]:
    import PIL.Image

    start = file.read(16)
    file.seek(0)
    try:
        image = _identify(file, start)
    except PIL.UnidentifiedImageError:
        fix = advice(name, start)
        raise ImageError(
            f"{name}: is not an image that can be read" if fix is None else
            f"{name}: cannot be read by Pillow alone: {fix}"
        ) from None  # fmt: skip
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{name}: has more than {MAX_PIXELS / 1e6:.0f} million pixels") from None
    except Exception as error:  # a damaged header can upset a decoder in any way
        raise ImageError(f"{name}: cannot be read as an image ({_line(error)})") from None
    with image:
        yield image


def _identify(file: IO[bytes], start: bytes) -> PIL.Image.Image:
    import PIL.Image

    with _quiet():
        try:
            return PIL.Image.open(file, formats=readable_formats())
        except PIL.UnidentifiedImageError:
            if not add_heif(start):
                raise
            file.seek(0)
            return PIL.Image.open(file, formats=readable_formats())


def _decoded(image: PIL.Image.Image, name: str, shape: tuple[int, int] | None) -> Decoded:
    """Decode an image that is not too large."""
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"{name}: has no pixels ({width}×{height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width}×{height} is more than {MAX_PIXELS / 1e6:.0f} million pixels; "
            "make it smaller first"
        )
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{name}: {width}×{height} has a side of more than {MAX_SIDE:,} pixels")
    needed = _memory(image, shape)
    if needed > MAX_BYTES:
        raise ImageError(
            f"{name}: {width}×{height} of this kind take {bytes_text(needed)} to decode, more than "
            f"{bytes_text(MAX_BYTES)}; make it smaller first"
        )
    with _one_line(image, name):
        picture = Decoded(image)
    picture.orientation = _orientation(image)  # looked up late, for it may load the image
    return picture


def _memory(image: PIL.Image.Image, shape: tuple[int, int] | None) -> int:
    """Bytes that decoding an image and resizing it to ``shape`` take at most."""
    width, height = image.size
    pixels = width * height
    kind = image.format or ""
    decoding = _DECODING.get(kind, _PROGRESSIVE if image.info.get("progressive") else 0)
    if shape is None:
        working = 3 * pixels
    else:  # rows of doubles before the columns are resized, and the weights of the longer side
        working = 24 * shape[0] * max(width, height) + 200 * max(width, height)
    kept = _KEPT.get(image.mode, 4)
    if isinstance(image.info.get("transparency"), tuple):  # decoded twice where it has 16 bits
        kept += 4
    return kept * pixels + max(decoding * pixels, working)


@contextlib.contextmanager
def _one_line(image: PIL.Image.Image, name: str) -> Iterator[None]:
    """Turn what a decoder may raise into one line that names the image."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from None
    except MemoryError:
        width, height = image.size
        raise ImageError(f"{name}: {width}×{height} needs more memory than there is") from None
    except Exception as error:  # truncated or damaged data can upset a decoder in any way
        raise ImageError(f"{name}: is damaged or truncated ({_line(error)})") from None


def _orientation(image: PIL.Image.Image) -> int:
    try:
        with _quiet():
            value = image.getexif().get(0x0112, 1)
    except Exception:  # metadata that cannot be parsed says nothing; the pixels are fine
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _line(error: BaseException) -> str:
    """Give an error's first line, or its kind where it has none."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__
