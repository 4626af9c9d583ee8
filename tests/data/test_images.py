"""Every kind of image becomes RGB bytes, and pixels become network inputs in one way only."""

from __future__ import annotations

import io
import os
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.transform import resize

from dlmie.data.images import (
    ImageError,
    Preprocessing,
    decoding,
    deprocess,
    find_images,
    load_image,
    preprocess,
    resize_image,
    resizing,
    save_image,
    view_image,
)
from dlmie.errors import DataError


def pixels(height: int = 5, width: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """Make a PNG that claims a size and holds almost nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")
        )

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x02\x00\x00\x00")
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


class TestKindsOfImages:
    def test_rgb_from_path_bytes_pil_and_array_are_equal(self, tmp_path: Path) -> None:
        original = pixels()
        path = save_image(tmp_path / "a.png", original)
        for source in (path, str(path), path.read_bytes(), PIL.Image.open(path), original):
            result = load_image(source)
            assert result.dtype == np.uint8
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result, original)

    def test_the_result_is_a_copy(self) -> None:
        original = pixels()
        load_image(original)[:] = 0
        assert original.any()

    def test_gray(self) -> None:
        gray = pixels()[:, :, 0]
        for source in (gray, gray[:, :, None], encoded(PIL.Image.fromarray(gray), "PNG")):
            np.testing.assert_array_equal(load_image(source), np.repeat(gray[:, :, None], 3, 2))

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_alpha_lies_over_white(self, mode: str) -> None:
        color = np.full((2, 2, len(mode) - 1), 100, np.uint8)
        alpha = np.array([[0, 255], [128, 51]], np.uint8)
        array = np.concatenate([color, alpha[:, :, None]], axis=2)
        white = np.array([[255, 100], [177, 224]])  # round(100 α + 255 (1 − α))
        for source in (array, encoded(PIL.Image.fromarray(array), "PNG")):
            np.testing.assert_array_equal(load_image(source)[:, :, 1], white)

    def test_palette_with_and_without_transparency(self) -> None:
        image = PIL.Image.new("P", (3, 1))
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.putdata([0, 1, 2])
        plain = load_image(encoded(image, "PNG"))
        np.testing.assert_array_equal(plain[0], [[10, 20, 30], [40, 50, 60], [70, 80, 90]])
        for transparency in (1, bytes([255, 0, 255])):
            clear = load_image(encoded(image, "PNG", transparency=transparency))
            np.testing.assert_array_equal(clear[0], [[10, 20, 30], [255] * 3, [70, 80, 90]])

    def test_gray_and_rgb_with_a_transparent_color(self) -> None:
        rgb = PIL.Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
        result = load_image(encoded(rgb, "PNG", transparency=(1, 2, 3)))
        np.testing.assert_array_equal(result, [[[255] * 3, [4, 5, 6]]])

    def test_one_bit(self) -> None:
        image = PIL.Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
        np.testing.assert_array_equal(load_image(encoded(image, "PNG"))[0, :, 0], [0, 255])

    def test_cmyk_jpeg(self) -> None:
        image = PIL.Image.new("RGB", (16, 16), (200, 40, 60)).convert("CMYK")
        result = load_image(encoded(image, "JPEG", quality=98))
        assert np.abs(result.astype(int) - [200, 40, 60]).max() < 12

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bit_gray(self, kind: str) -> None:
        gray = np.array([[0, 257, 32768, 65535]], np.uint16)
        result = load_image(encoded(PIL.Image.fromarray(gray), kind))
        np.testing.assert_array_equal(result[0, :, 0], [0, 1, 128, 255])
        np.testing.assert_array_equal(load_image(gray), result)

    def test_float_tiff(self) -> None:
        gray = np.array([[0.0, 0.5, 1.0]], np.float32)
        result = load_image(encoded(PIL.Image.fromarray(gray), "TIFF"))
        np.testing.assert_array_equal(result[0, :, 0], [0, 128, 255])
        with pytest.raises(ImageError, match=r"0\.\.1"):
            load_image(encoded(PIL.Image.fromarray(gray * 300), "TIFF"))

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation: int) -> None:
        upright = pixels(4, 6)
        turned = {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.transpose(1, 0, 2),
            6: np.rot90(upright, 1),
            7: upright[::-1, ::-1].transpose(1, 0, 2),
            8: np.rot90(upright, -1),
        }[orientation]
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        data = encoded(PIL.Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)
        np.testing.assert_array_equal(load_image(data), upright)

    def test_damaged_metadata_is_ignored(self) -> None:
        data = encoded(PIL.Image.fromarray(pixels()), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
        np.testing.assert_array_equal(load_image(data), pixels())

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
    def test_of_an_animation_the_first_frame_counts(self, kind: str) -> None:
        frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(load_image(data)[3, 3], [255, 0, 0])

    def test_one_pixel(self) -> None:
        data = encoded(PIL.Image.new("L", (1, 1), 9), "PNG")
        np.testing.assert_array_equal(load_image(data), [[[9, 9, 9]]])
        assert (resize_image(load_image(data), 224) == 9).all()

    @pytest.mark.parametrize(
        ("array", "expected"),
        [
            (np.array([[0.0, 0.25, 1.0]]), [0, 64, 255]),
            (np.array([[0.0, 0.25, 1.0]], np.float16), [0, 64, 255]),
            (np.array([[True, False, True]]), [255, 0, 255]),
            (np.array([[0, 7, 255]]), [0, 7, 255]),
        ],
    )
    def test_arrays_of_other_types(self, array: np.ndarray, expected: list[int]) -> None:
        np.testing.assert_array_equal(load_image(array)[0, :, 0], expected)


class TestRefusals:
    @pytest.mark.parametrize(
        "array",
        [
            np.full((2, 2, 3), 255.0),  # the trap of scaling twice: 0..255 as floats
            np.full((2, 2, 3), -0.1),
            np.full((2, 2, 3), np.nan),
            np.full((2, 2, 3), 256),
            np.full((2, 2, 3), -1),
            np.zeros((3, 8, 8), np.uint8),  # channels first
            np.zeros((2, 2, 5), np.uint8),
            np.zeros((2,), np.uint8),
            np.zeros((0, 2, 3), np.uint8),
            np.zeros((2, 2, 3), complex),
        ],
    )
    def test_arrays(self, array: np.ndarray) -> None:
        with pytest.raises(ImageError) as caught:
            load_image(array)
        assert "\n" not in str(caught.value)

    def test_float_pixels_in_bytes_range_say_what_to_do(self) -> None:
        with pytest.raises(ImageError, match=r"0\.\.1.*uint8"):
            load_image(np.full((2, 2, 3), 200.0))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty"),
            (b"this is text", "not an image"),
            (b"\x89PNG\r\n\x1a\n", "read"),
            (encoded(PIL.Image.fromarray(pixels(64, 64)), "PNG")[:900], "truncated"),
            (encoded(PIL.Image.fromarray(pixels(64, 64)), "JPEG")[:700], "truncated"),
            (b"GIF89a" + b"\0" * 4, "bad picture"),
            (png_header(5, 5)[:40], "bad picture"),
        ],
    )
    def test_bad_files_name_the_file_in_one_line(
        self, tmp_path: Path, content: bytes, message: str
    ) -> None:
        path = tmp_path / "bad picture.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError, match=message) as caught:
            load_image(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
        with pytest.raises(ImageError):
            load_image(content)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="no such file"):
            load_image(tmp_path / "none.jpg")
        with pytest.raises(ImageError, match="folder"):
            load_image(tmp_path)
        with pytest.raises(ImageError, match="NoneType"):
            load_image(None)  # type: ignore[arg-type]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path: Path) -> None:
        path = save_image(tmp_path / "a.png", pixels())
        path.chmod(0)
        with pytest.raises(ImageError, match="Permission"):
            load_image(path)

    @pytest.mark.parametrize("size", [(50_000, 50_000), (14_000, 14_000)])
    def test_huge_images(self, size: tuple[int, int]) -> None:
        with pytest.raises(ImageError, match="million pixels"):
            load_image(png_header(*size))

    def test_large_images_raise_no_warning(self) -> None:
        # 100 million pixels: PIL would warn of an attack.  The data is missing, so it is refused.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError, match="truncated"):
                load_image(png_header(10_000, 10_000))

    def test_huge_pil_image_and_user_s_own_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "MAX_PIXELS", 10)
        with pytest.raises(ImageError, match="million pixels"):
            load_image(PIL.Image.new("L", (4, 4)))
        with pytest.raises(ImageError, match="more than"):
            load_image(np.zeros((4, 4), np.uint8))


class TestResize:
    @pytest.mark.parametrize(
        ("shape", "size"),
        [
            ((37, 50), 16),
            ((37, 50), (60, 20)),
            ((9, 11), 24),
            ((1, 30), 8),
            ((200, 3), 7),
            ((700, 900), 48),
        ],
    )
    def test_it_is_scikit_image_s(self, shape: tuple[int, int], size: int) -> None:
        image = pixels(*shape)
        target = (size, size) if isinstance(size, int) else size
        expected = resize(image.astype(float), target, order=1, anti_aliasing=True)
        result = resize_image(image, size)
        assert result.dtype == np.uint8
        # separate axes add up in another order: a value within 1e-9 of .5 may round differently
        assert np.abs(result - expected).max() <= 0.5 + 1e-6

    @given(st.integers(1, 60), st.integers(1, 60))
    @settings(max_examples=60, deadline=None)
    def test_weights_are_those_of_scikit_image(self, before: int, after: int) -> None:
        values = np.random.default_rng(before).random((before, 3))
        expected = resize(values, (after, 3), order=1, anti_aliasing=True)
        np.testing.assert_allclose(
            resizing._weighted(resizing._resize_weights(before, after), values),
            expected,
            rtol=0,
            atol=1e-12,
        )

    def test_a_very_long_strip_needs_no_more_than_its_own_memory(self) -> None:
        image = np.arange(40_000 * 3).reshape(40_000, 1, 3).astype(np.uint8)
        tracemalloc.start()
        result = resize_image(image, 16)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.shape == (16, 16, 3)
        assert peak < 100e6

    def test_strips_do_not_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image = pixels(70, 90)
        whole = resize_image(image, 20)
        monkeypatch.setattr(resizing, "_STRIP", 1000)
        np.testing.assert_array_equal(resize_image(image, 20), whole)

    def test_right_size_is_returned_as_it_is(self) -> None:
        image = pixels(8, 8)
        assert resize_image(image, 8) is image

    @pytest.mark.parametrize("bad", [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), [[1]]])
    def test_only_pixels(self, bad: np.ndarray) -> None:
        with pytest.raises(ImageError):
            resize_image(bad, 4)

    def test_impossible_size(self) -> None:
        with pytest.raises(ImageError, match="0×0"):
            resize_image(pixels(), 0)


LITE = Preprocessing(8, (127.0,) * 3, (128.0,) * 3)
CAFFE = Preprocessing(8, (104.0, 117.0, 123.0), (1.0,) * 3, "BGR")


class TestViews:
    def test_the_image_and_its_mirror_image(self) -> None:
        image = pixels()
        np.testing.assert_array_equal(view_image(image, 0, 4), image)
        np.testing.assert_array_equal(view_image(image, 1, 4), image[:, ::-1])

    @pytest.mark.parametrize("shape", [(1, 1), (3, 50), (40, 30)])
    def test_a_crop_is_a_function_of_view_and_key(self, shape: tuple[int, int]) -> None:
        image = pixels(*shape)
        crop = view_image(image, 2, 9)
        assert crop.shape == image.shape
        assert crop.dtype == np.uint8
        np.testing.assert_array_equal(view_image(image, 2, 9), crop)
        if shape == (40, 30):
            assert not np.array_equal(view_image(image, 3, 9), crop)
            assert not np.array_equal(view_image(image, 2, 8), crop)

    def test_a_crop_shows_most_of_the_image_at_another_place_and_light(self) -> None:
        ramp = np.zeros((60, 60, 3), np.uint8)
        ramp[..., 0] = np.arange(60) * 4
        ramp[..., 1] = np.arange(60)[:, None] * 4
        crops = [view_image(ramp, 2, key).astype(float) for key in range(60)]
        for axis, channel in ((1, 0), (0, 1)):  # how much of each side is seen
            seen = [abs(np.diff(c[..., channel].mean(axis=1 - axis)[[0, -1]]))[0] for c in crops]
            shares = np.array(seen) / (59 * 4)
            assert 0.45 < shares.min() < 0.75
            assert shares.max() > 0.9
        mirrored = [c[0, 0, 0] > c[0, -1, 0] for c in crops]
        assert 15 < sum(mirrored) < 45
        means = [c.mean() for c in crops]
        assert max(means) - min(means) > 15


class TestPreprocess:
    def test_values_and_channel_order(self) -> None:
        image = np.broadcast_to(np.array([10, 20, 30], np.uint8), (8, 8, 3))
        np.testing.assert_allclose(
            preprocess(image, LITE)[:, 0, 0], (np.array([10, 20, 30]) - 127) / 128, rtol=1e-6
        )
        np.testing.assert_array_equal(preprocess(image, CAFFE)[:, 0, 0], [30 - 104, 20 - 117, -113])

    def test_shape_and_type(self) -> None:
        batch = np.stack([pixels(9, 5, seed) for seed in range(6)]).reshape(2, 3, 9, 5, 3)
        result = preprocess(batch, LITE)
        assert result.shape == (2, 3, 3, 8, 8)
        assert result.dtype == np.float32

    def test_one_image_and_a_batch_give_the_same_bits(self, tmp_path: Path) -> None:
        image = pixels(30, 40)
        path = save_image(tmp_path / "a.png", image)
        alone = preprocess(load_image(path), CAFFE)
        prepared = resize_image(image, 8)  # as a prepared file holds it
        np.testing.assert_array_equal(preprocess(prepared[None], CAFFE)[0], alone)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_scaled_images_are_refused(self, dtype: type) -> None:
        with pytest.raises(ImageError, match="uint8"):
            preprocess(np.zeros((8, 8, 3), dtype), LITE)

    def test_channels_first_is_refused(self) -> None:
        with pytest.raises(ImageError, match="H, W, 3"):
            preprocess(np.zeros((3, 8, 8), np.uint8), LITE)

    @given(arrays(np.uint8, (2, 8, 8, 3)), st.sampled_from([LITE, CAFFE]))
    @settings(max_examples=30, deadline=None)
    def test_deprocess_undoes_it(self, batch: np.ndarray, preprocessing: Preprocessing) -> None:
        np.testing.assert_array_equal(
            deprocess(preprocess(batch, preprocessing), preprocessing), batch
        )

    def test_deprocess_clips(self) -> None:
        x = np.array([-1e9, -2.0, 2.0, 1e9, np.nan, np.inf, -np.inf], np.float32)
        x = np.broadcast_to(x, (3, 1, 7))
        np.testing.assert_array_equal(deprocess(x, LITE)[0, :, 0], [0, 0, 255, 255, 0, 255, 0])
        with pytest.raises(ImageError, match="shape"):
            deprocess(np.zeros((4, 4, 3)), LITE)

    def test_json(self) -> None:
        assert Preprocessing.from_json(CAFFE.to_json()) == CAFFE
        assert Preprocessing(8, [1, 2, 3], [1, 1, 1]) == Preprocessing(8, (1.0, 2.0, 3.0))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "options",
        [{"size": 0}, {"mean": (1, 2)}, {"scale": (1, 0, 1)}, {"channels": "RGBA"}],
    )
    def test_nonsense_is_refused(self, options: dict) -> None:
        with pytest.raises(ValueError, match="preprocessing"):
            Preprocessing(**{"size": 8, **options})


class TestFiles:
    def test_find_images(self, tmp_path: Path) -> None:
        for name in ("b.JPG", "a.png", "note.txt", ".hidden.png", "sub/c.webp", ".git/d.png"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
        found = find_images([tmp_path])
        assert [str(path.relative_to(tmp_path)) for path in found] == [
            "a.png",
            "b.JPG",
            "sub/c.webp",
        ]
        assert find_images([tmp_path, tmp_path / "a.png"]) == found
        assert len(find_images([tmp_path], recursive=False)) == 2
        assert find_images([tmp_path / "note.txt"]) == [tmp_path / "note.txt"]
        assert find_images(str(tmp_path)) == found  # one path is not a list of letters
        with pytest.raises(ValueError, match="no such file"):
            find_images([tmp_path / "none"])
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="no image"):
            find_images([tmp_path / "empty"])

    def test_save_image(self, tmp_path: Path) -> None:
        image = pixels()
        path = save_image(tmp_path / "new" / "a.png", image)
        np.testing.assert_array_equal(load_image(path), image)
        np.testing.assert_array_equal(
            load_image(save_image(tmp_path / "g.png", image[:, :, 0]))[:, :, 0], image[:, :, 0]
        )
        assert load_image(save_image(str(tmp_path / "a.jpeg"), image)).shape == image.shape
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jpeg", "g.png", "new"]

    def test_save_image_refuses(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="saved as"):
            save_image(tmp_path / "a.gif", pixels())
        with pytest.raises(ImageError, match="uint8"):
            save_image(tmp_path / "a.png", np.zeros((2, 2, 3)))
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match="was not written: Not a directory"):
            save_image(tmp_path / "file" / "a.png", pixels())
