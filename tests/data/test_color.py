"""What the numbers of image files mean: color profiles, photometric tags, bit depths, opacity."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
from PIL import ImageCms

from dlmie.data.images import (
    ImageBytes,
    ImageError,
    ImageWarning,
    decoding,
    load_image,
    load_with_alpha,
    resize_image,
)


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colors(height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def profile_of(space: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes()  # type: ignore[arg-type]


def swapped_profile() -> bytes:
    """An RGB profile that calls red what sRGB calls blue: no color of it can be missed."""
    profile = bytearray(profile_of("sRGB"))
    red, blue = profile.index(b"rXYZ", 128), profile.index(b"bXYZ", 128)
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


class TestProfiles:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
    def test_colors_become_srgb(self, kind: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(
            PIL.Image.fromarray(colors()), kind, icc_profile=swapped_profile(), **options
        )
        expected = colors()[:, :, ::-1].astype(int)
        assert np.abs(load_image(data) - expected).max() <= 2

    def test_also_beside_opacity_and_in_a_palette(self) -> None:
        rgba = np.dstack([colors(), np.full((6, 9), 255, np.uint8)])
        rgba[0, 0, 3] = 0
        data = encoded(PIL.Image.fromarray(rgba), "PNG", icc_profile=swapped_profile())
        pixels = load_image(data).astype(int)
        assert (pixels[0, 0] == 255).all()
        assert np.abs(pixels - colors()[:, :, ::-1])[1:].max() <= 2
        palette = PIL.Image.new("P", (3, 2), 1)
        palette.putpalette([0, 0, 0, 200, 100, 50])
        data = encoded(palette, "PNG", icc_profile=swapped_profile())
        assert np.abs(load_image(data).astype(int) - [50, 100, 200]).max() <= 2

    def test_srgb_by_another_name_changes_nothing(self) -> None:
        data = encoded(PIL.Image.fromarray(colors()), "PNG", icc_profile=profile_of("sRGB"))
        np.testing.assert_array_equal(load_image(data), colors())

    def test_gray_images_may_have_a_profile_for_rgb(self) -> None:
        gray = PIL.Image.fromarray(colors()[:, :, 0])
        data = encoded(gray, "PNG", icc_profile=profile_of("sRGB"))
        np.testing.assert_array_equal(load_image(data)[:, :, 1], colors()[:, :, 0])

    def test_lab(self) -> None:
        rgb = PIL.Image.new("RGB", (5, 4), (200, 40, 60))
        source, target = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.profileToProfile(rgb, source, target, outputMode="LAB")
        assert lab is not None
        pixels = load_image(encoded(lab, "TIFF")).astype(int)
        assert np.abs(pixels - [200, 40, 60]).max() <= 4

    @pytest.mark.parametrize(
        "profile", [b"no profile at all", profile_of("LAB"), swapped_profile()[:300]]
    )
    def test_a_profile_that_cannot_be_used_is_named(self, tmp_path: Path, profile: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(encoded(PIL.Image.fromarray(colors()), "PNG", icc_profile=profile))
        with pytest.warns(ImageWarning, match="color profile cannot be used") as caught:
            pixels = load_image(path)
        np.testing.assert_array_equal(pixels, colors())
        assert [str(w.message).startswith(f"{path}: ") for w in caught] == [True]

    def test_the_cases(self, shared: Path) -> None:
        folder = shared / "cases" / "inputs" / "icc"
        wanted = load_image(folder / "srgb.png").astype(int)
        assert np.abs(load_image(folder / "a98.png") - wanted).mean() < 1
        assert np.abs(load_image(folder / "lab.tif") - wanted).mean() < 1
        assert np.abs(load_image(folder / "a98.jpg") - wanted).mean() < 4  # JPEG of small colors


class TestDepths:
    RAMP = np.linspace(0, 65535, 32, dtype=np.uint16).reshape(4, 8)

    @pytest.mark.parametrize("kind", ["u2", "f4"])
    def test_white_is_zero(self, kind: str) -> None:
        values = self.RAMP if kind == "u2" else (self.RAMP / np.float32(65535)).astype(np.float32)
        plain = load_image(encoded(PIL.Image.fromarray(values), "TIFF"))
        inverted = load_image(encoded(PIL.Image.fromarray(values), "TIFF", tiffinfo={262: 0}))
        np.testing.assert_array_equal(inverted, 255 - plain)

    def test_white_is_zero_of_bytes_is_not_inverted_twice(self) -> None:
        gray = PIL.Image.fromarray(colors()[:, :, 0])
        data = encoded(PIL.ImageOps.invert(gray), "TIFF", tiffinfo={262: 0})
        assert load_image(data).shape == (6, 9, 3)
        before = np.asarray(PIL.Image.open(io.BytesIO(data)))  # Pillow inverts these itself
        np.testing.assert_array_equal(load_image(data)[:, :, 0], before)

    def test_twelve_bits_reach_white(self) -> None:
        """What TIFF calls 12 bits is read as such: 4095 is white."""
        packed = np.array([0xFF, 0xF0, 0x00, 0x80, 0x00, 0x00], np.uint8).tobytes()
        data = tiff(packed, width=4, bits=12)
        np.testing.assert_array_equal(load_image(data)[0, :, 0], [255, 0, 128, 0])

    def test_twelve_bits_that_are_called_sixteen_are_warned_of(self) -> None:
        data = encoded(PIL.Image.fromarray(self.RAMP // 16), "PNG")
        with pytest.warns(ImageWarning, match="4095 of 65535.*nearly black"):
            pixels = load_image(data)
        assert pixels.max() == 16

    def test_dark_and_black_images_are_not(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_image(encoded(PIL.Image.fromarray(self.RAMP // 15), "PNG"))
            load_image(encoded(PIL.Image.fromarray(self.RAMP * 0), "PNG"))

    def test_the_cases(self, shared: Path) -> None:
        folder = shared / "cases" / "inputs" / "tiff"
        wanted = load_image(folder / "black_is_zero_16.tif")
        np.testing.assert_array_equal(load_image(folder / "white_is_zero_16.tif"), wanted)
        with pytest.warns(ImageWarning, match="nearly black"):
            load_image(folder / "twelve_bit_in_16.tif")


def tiff(data: bytes, width: int, bits: int) -> bytes:
    """A gray TIFF of one row, uncompressed."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1)]
    tags.append((279, len(data)))
    entries = b"".join(
        number.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
        for number, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + b"\0\0\0\0"
    return b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data + directory


class TestTransparentColors:
    """The one color of a PNG that is transparent is compared as exactly as it was written."""

    def test_sixteen_bit_gray(self) -> None:
        values = np.array([[257, 258, 511, 30000, 65535]], np.uint16)
        data = encoded(PIL.Image.fromarray(values), "PNG", transparency=257)
        np.testing.assert_array_equal(load_image(data)[0, :, 0], [255, 1, 2, 117, 255])
        np.testing.assert_array_equal(load_with_alpha(data)[1], [[0, 255, 255, 255, 255]])

    def test_sixteen_bit_colors(self) -> None:
        values = np.array([[[257, 514, 771], [257, 514, 770], [256, 514, 771], [9, 9, 9]]], ">u2")
        data = png(values, transparent=(257, 514, 771))
        np.testing.assert_array_equal(load_with_alpha(data)[1], [[0, 255, 255, 255]])
        np.testing.assert_array_equal(
            load_image(data)[0], [[255] * 3, [1, 2, 3], [1, 2, 3], [0] * 3]
        )

    @pytest.mark.parametrize(("bits", "white"), [(1, 1), (2, 3), (4, 15), (8, 255)])
    def test_few_bits(self, bits: int, white: int) -> None:
        packed = (white << (16 - 2 * bits)).to_bytes(2, "big")[: 2 if bits == 8 else 1]
        data = png_of(packed, width=2, height=1, depth=bits, kind=0, clear=(white,))
        np.testing.assert_array_equal(load_with_alpha(data)[1], [[255, 0]])
        np.testing.assert_array_equal(load_image(data)[0, :, 0], [0, 255])
        data = png_of(packed, width=2, height=1, depth=bits, kind=0, clear=(0,))
        np.testing.assert_array_equal(load_with_alpha(data)[1], [[0, 255]])


def png(values: np.ndarray, transparent: tuple[int, ...]) -> bytes:
    """A PNG of 16-bit colors (H, W, 3)."""
    height, width, _ = values.shape
    rows = [values[y].astype(">u2").tobytes() for y in range(height)]
    return png_of(b"\0".join(rows), width, height, 16, 2, transparent)


def png_of(
    rows: bytes, width: int, height: int, depth: int, kind: int, clear: tuple[int, ...]
) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([depth, kind, 0, 0, 0]))
        + chunk(b"tRNS", b"".join(number.to_bytes(2, "big") for number in clear))
        + chunk(b"IDAT", zlib.compress(b"\0" + rows))
        + chunk(b"IEND", b"")
    )


class TestOpacity:
    def test_it_is_turned_with_the_image(self) -> None:
        rgba = np.dstack([colors(4, 6), np.full((4, 6), 255, np.uint8)])
        rgba[0, 1, 3] = 7
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        data = encoded(PIL.Image.fromarray(rgba), "PNG", exif=exif)
        alpha = load_with_alpha(data)[1]
        assert alpha is not None
        np.testing.assert_array_equal(alpha, np.rot90(rgba[:, :, 3], -1))

    def test_opaque_images_have_none(self) -> None:
        opaque = np.dstack([colors(), np.full((6, 9), 255, np.uint8)])
        for source in (colors(), opaque, encoded(PIL.Image.fromarray(opaque), "PNG")):
            assert load_with_alpha(source)[1] is None
        opaque[2, 2, 3] = 9
        np.testing.assert_array_equal(load_with_alpha(opaque)[1], opaque[:, :, 3])


class TestMemory:
    """Whatever its kind, an image is converted in strips, and refused where it takes too much."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_resized_while_it_is_read_it_is_the_same(
        self, monkeypatch: pytest.MonkeyPatch, orientation: int
    ) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        data = encoded(PIL.Image.fromarray(colors(50, 70)), "PNG", exif=exif)
        whole = load_image(data)
        monkeypatch.setattr("dlmie.data.images.decoded._STRIP", 300)
        monkeypatch.setattr("dlmie.data.images.resizing._READ", 300)
        np.testing.assert_array_equal(load_image(data), whole)
        for size in (16, (9, 30), whole.shape[:2]):
            np.testing.assert_array_equal(load_image(data, size), resize_image(whole, size))

    def test_a_large_image_takes_its_own_memory_and_little_more(self, tmp_path: Path) -> None:
        """A palette of 36 million pixels with one transparent: 36 MB, not 16 times as much."""
        image = PIL.Image.new("P", (6000, 6000))
        image.putpalette([0, 0, 0, 255, 255, 255])
        image.save(tmp_path / "a.png", transparency=0)
        program = (
            "import resource, sys, scipy.sparse, PIL.Image\n"
            "from dlmie.data.images import load_image\n"
            "PIL.Image.init()\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "before = peak(); load_image(sys.argv[1], 224); print(peak() - before)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "a.png")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        unit = 1 if sys.platform == "darwin" else 1024
        assert int(ran.stdout) * unit < 36e6 + 180e6

    @pytest.mark.parametrize(
        ("mode", "kind", "options"),
        [("RGB", "PNG", {}), ("CMYK", "TIFF", {}), ("RGB", "JPEG", {"progressive": True})],
    )
    def test_the_limit_counts_bytes(
        self, monkeypatch: pytest.MonkeyPatch, mode: str, kind: str, options: dict[str, bool]
    ) -> None:
        data = encoded(PIL.Image.new(mode, (100, 90)), kind, **options)
        monkeypatch.setattr(decoding, "MAX_BYTES", 100 * 90 * 4)
        with pytest.raises(ImageError, match=r"100×90 of this kind take .* to decode, more than"):
            load_image(data)

    def test_kinds_that_take_less_may_be_larger(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "MAX_BYTES", 100 * 90 * 5)
        load_image(encoded(PIL.Image.new("L", (100, 90)), "PNG"))
        with pytest.raises(ImageError):
            load_image(encoded(PIL.Image.new("RGB", (100, 90)), "PNG"))

    def test_long_strips(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "MAX_SIDE", 50)
        with pytest.raises(ImageError, match="a side of more than 50 pixels"):
            load_image(encoded(PIL.Image.new("L", (60, 1)), "PNG"))


class TestNames:
    def test_bytes_may_have_a_name(self) -> None:
        data = encoded(PIL.Image.fromarray(colors()), "PNG")
        np.testing.assert_array_equal(load_image(ImageBytes(data, "standard input")), colors())
        for content, message in ((b"", "is empty"), (b"text", "not an image")):
            with pytest.raises(ImageError, match=f"^standard input: .*{message}"):
                load_image(ImageBytes(content, "standard input"))

    @pytest.mark.parametrize("name", ["a.heic", "a.png", "noname"])
    def test_heic_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
    ) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
        with pytest.raises(ImageError, match="pip install pillow-heif, or convert it"):
            load_image(tmp_path / name)

    def test_pillow_heif_is_used_where_it_is_installed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Heif(PIL.Image.Image):
            pass

        def accept(start: bytes) -> bool:
            return start[4:12] == b"ftypheic"

        def register() -> None:
            PIL.Image.register_open("HEIF", lambda file, name: PIL.Image.new("RGB", (3, 2)), accept)  # type: ignore[arg-type, return-value]

        module = SimpleNamespace(register_heif_opener=register)
        monkeypatch.setitem(sys.modules, "pillow_heif", module)
        known, order = dict(PIL.Image.OPEN), list(PIL.Image.ID)
        try:
            assert load_image(b"\0\0\0\x18ftypheic" + bytes(40)).shape == (2, 3, 3)
        finally:
            PIL.Image.OPEN.clear(), PIL.Image.OPEN.update(known)
            PIL.Image.ID[:] = order
            from dlmie.data.images import formats

            formats.readable_formats.cache_clear()
            formats.readable_suffixes.cache_clear()

    @pytest.mark.parametrize(
        ("name", "what"), [("a.cr2", "raw data"), ("a.svg", "drawing"), ("a.jxl", "convert")]
    )
    def test_other_pictures_say_what_to_do(self, tmp_path: Path, name: str, what: str) -> None:
        (tmp_path / name).write_bytes(b"something else")
        with pytest.raises(ImageError, match=what):
            load_image(tmp_path / name)

    def test_nothing_is_run_for_postscript(self, tmp_path: Path) -> None:
        path = tmp_path / "a.eps"
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
        with pytest.raises(ImageError, match="drawing"):
            load_image(path)

    def test_addresses_and_pipes(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"^https://x/a\.jpg: is an address"):
            load_image("https://x/a.jpg")
        os.mkfifo(tmp_path / "a.jpg")
        with pytest.raises(ImageError, match="not a regular file"):
            load_image(tmp_path / "a.jpg")

    def test_warnings_reach_every_thread(self) -> None:
        """Decoding silences Pillow for a moment; that must not swallow what others say."""
        data = encoded(PIL.Image.fromarray(colors()), "PNG", icc_profile=b"broken")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            threads = [threading.Thread(target=load_image, args=(data,)) for _ in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(caught) == 16
