"""A decoded image, turned into upright RGB strip by strip: memory does not grow with its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from dlmie.data.images.arrays import bytes_from_numbers, over_white
from dlmie.data.images.color import ProfileError, kind_of_color, transform_of
from dlmie.data.images.pixels import ImageError

if TYPE_CHECKING:  # PIL is imported by the functions that need it
    import PIL.Image

_STRIP = 2_000_000  # pixels converted at a time

# EXIF orientation 1..8 → the array operation that puts the picture upright.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}

# Of these, upright columns are rows of the file; and those of these run the other way.
_LYING, _BACKWARDS = (5, 6, 7, 8), (2, 3, 6, 7)

_PHOTOMETRIC, _BITS, _WHITE_IS_ZERO = 262, 258, 0  # tags of TIFF, and a value of the first
_NEARLY_BLACK = 4095  # of 65535: what 12 bits hold


class Decoded:
    """An image as PIL decoded it, and how its pixels are meant.

    Parameters
    ----------
    image
        Not loaded yet where it comes from a file: how it is stored is only known before.

    Attributes
    ----------
    orientation : int
        EXIF's, 1 to 8: what turns the file's pixels upright.
    transparent : bool
        Whether it may have transparent pixels.
    notes : list of str
        What to warn of: pixels that are perhaps not meant as they were read.
    """

    def __init__(self, image: PIL.Image.Image) -> None:
        self.orientation = 1
        self.notes: list[str] = []
        self._image = image
        self._clear = _clear_color(image)
        self._lower = _lower_bytes(image) if isinstance(self._clear, tuple) else None
        image.load()
        self._banded = self._clear is None and image.has_transparency_data
        self.transparent = self._clear is not None or self._banded
        self._deep = image.mode.startswith("I") or image.mode == "F"  # PIL would clip, not scale
        self._top = self._highest_number() if self._deep else 255
        self._inverted = self._deep and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
        self._kind = kind_of_color(image.mode)
        try:
            self._transform = transform_of(image.info.get("icc_profile") or b"", self._kind)
        except ProfileError as error:
            self._transform = None
            self.notes.append(
                f"its color profile cannot be used ({error}); its colors are taken as sRGB"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, upright."""
        width, height = self._image.size
        return (width, height) if self.orientation in _LYING else (height, width)

    def pixels(self) -> np.ndarray:
        """The whole image: (H, W, 3) uint8."""
        result = np.empty((*self.shape, 3), np.uint8)
        for start, stop in self._strips():
            result[:, start:stop] = self.columns(start, stop)
        return result

    def columns(self, start: int, stop: int) -> np.ndarray:
        """Some upright columns, transparent ones over white: (H, stop - start, 3) uint8."""
        part = self._part(start, stop)
        colors, alpha = self._colors(part), self._opacity(part, start, stop)
        return self._turn(colors if alpha is None else over_white(colors, alpha))

    def alpha(self) -> np.ndarray:
        """The opacity of the whole image: (H, W) uint8."""
        result = np.full(self.shape, 255, np.uint8)
        for start, stop in self._strips():
            alpha = self._opacity(self._part(start, stop), start, stop)
            if alpha is not None:
                result[:, start:stop] = self._turn(alpha)
        return result

    def _strips(self) -> list[tuple[int, int]]:
        height, width = self.shape
        step = max(1, _STRIP // height)
        return [(start, min(start + step, width)) for start in range(0, width, step)]

    def _part(self, start: int, stop: int) -> PIL.Image.Image:
        """The pixels of some upright columns, with a band of their opacity if they have one."""
        part = self._cut(self._image, start, stop)
        return part.convert("RGBA") if self._banded else part

    def _cut(self, image: PIL.Image.Image, start: int, stop: int) -> PIL.Image.Image:
        """The part of the file's pixels that upright columns come from."""
        width, height = image.size
        lying = self.orientation in _LYING
        if self.orientation in _BACKWARDS:
            length = height if lying else width
            start, stop = length - stop, length - start
        return image.crop((0, start, width, stop) if lying else (start, 0, stop, height))

    def _turn(self, pixels: np.ndarray) -> np.ndarray:
        return _TURNS[self.orientation](pixels)

    def _colors(self, part: PIL.Image.Image) -> np.ndarray:
        """The colors of a part as sRGB means them, whatever their opacity: (h, w, 3) uint8."""
        import PIL.Image

        if self._deep:
            part = PIL.Image.fromarray(self._gray(np.asarray(part)))
        if part.mode != self._kind:
            part = part.convert(self._kind)
        if self._transform is not None:
            mode, apply = self._transform
            part = apply(part if part.mode == mode else part.convert(mode))
        return np.asarray(part if part.mode == "RGB" else part.convert("RGB"))

    def _opacity(self, part: PIL.Image.Image, start: int, stop: int) -> np.ndarray | None:
        """The opacity of a part that was cut out, (h, w) uint8; None where all is opaque."""
        if not self.transparent:
            return None
        if self._lower is not None:
            lower = np.asarray(self._cut(self._lower, start, stop)).astype(np.uint16)
            numbers = np.asarray(part.convert("RGB")).astype(np.uint16) * np.uint16(256) + lower
            same = (numbers == np.array(self._clear, np.uint16)).all(axis=2)
        elif isinstance(self._clear, int):
            same = np.asarray(part if self._deep else part.convert("L")) == self._clear
        else:
            return np.asarray(part.getchannel("A"))
        return np.where(same, np.uint8(0), np.uint8(255))

    def _gray(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers beyond bytes as gray levels, uint8."""
        if numbers.dtype.kind == "f":
            levels = bytes_from_numbers(numbers)
        elif self._top == 65535:
            levels = bytes_from_numbers(numbers.astype(np.uint16))
        else:
            levels = bytes_from_numbers(numbers / np.float64(self._top))
        return np.uint8(255) - levels if self._inverted else levels

    def _highest_number(self) -> float:
        """What white (or, inverted, black) is; raises ImageError for numbers beyond it."""
        low, high = self._image.getextrema()
        assert not isinstance(low, tuple), "such an image has one band"
        assert not isinstance(high, tuple)
        if self._image.mode == "F":
            return 1.0  # checked number by number, for not-a-number
        bits = _tag(self._image, _BITS)
        top = 2**bits - 1 if isinstance(bits, int) and 8 < bits < 16 else 65535
        if low < 0 or high > top:
            raise ImageError(f"gray values {low}..{high} are outside 0..{top}")
        if top == 65535 and 0 < high <= _NEARLY_BLACK:
            self.notes.append(
                f"its 16-bit pixels end at {high} of 65535, so it looks nearly black; if white was "
                "meant to be there, scale its numbers first"
            )
        return top


def _tag(image: PIL.Image.Image, number: int) -> object:
    """A tag of a TIFF file, the first of several values; None elsewhere."""
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value


def _rawmode(image: PIL.Image.Image) -> str | None:
    """How the pixels of a PNG that is not loaded yet are stored."""
    tiles = getattr(image, "tile", None)
    if image.format != "PNG" or not tiles:
        return None
    arguments = tiles[0][3]
    return arguments if isinstance(arguments, str) else arguments[0]


def _clear_color(image: PIL.Image.Image) -> int | tuple[int, ...] | None:
    """The one transparent color of a gray or RGB PNG, in the numbers that PIL gives of its pixels.

    PIL stretches gray levels of 2 and 4 bits to bytes, but not the transparent one among them.
    """
    clear = image.info.get("transparency")
    if isinstance(clear, int) and kind_of_color(image.mode) == "L":
        if image.mode == "1":
            return 255 if clear else 0
        return clear * {"L;2": 85, "L;4": 17}.get(_rawmode(image) or "", 1)
    return clear if isinstance(clear, tuple) and _rawmode(image) == "RGB;16B" else None


def _lower_bytes(image: PIL.Image.Image) -> PIL.Image.Image:
    """The lower bytes of a PNG of 16-bit colors, as an RGB image.

    PIL keeps the higher ones, in which several colors are one: too few to tell which of them is
    the transparent one.  So the file is decoded a second time.
    """
    import PIL.Image

    file = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    lower = PIL.Image.open(file, formats=["PNG"])
    lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
    lower.load()
    return lower
