"""TinyImageNet's folder layout, written here with plain tools and read by dlmie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from dlmie.data import TinyImageNet
from dlmie.errors import DataError

CLASSES = {"n02123045": "tabby, tabby cat", "n07614500": "ice cream, icecream"}


def picture(path: Path, gray: int | None = None, seed: int = 0, side: int = 64) -> np.ndarray:
    """A JPEG of one color, or a gray one; JPEG keeps flat images as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = np.random.default_rng(seed).integers(0, 256, 3).astype(np.uint8)
    pixels = np.full((side, side), gray, np.uint8) if gray is not None else color
    pixels = pixels if gray is not None else np.tile(color, (side, side, 1))
    PIL.Image.fromarray(pixels).save(path, format="JPEG", quality=95, subsampling=0)
    return np.asarray(PIL.Image.open(path).convert("RGB")).transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wnids.txt").write_text("\n".join(CLASSES) + "\n")
    others = "n00001740\tentity\n"
    lines = "".join(f"{wnid}\t{names}\n" for wnid, names in CLASSES.items())
    (tmp_path / "words.txt").write_text(others + lines)
    for number, wnid in enumerate(CLASSES):
        place = tmp_path / "train" / wnid
        for i in range(3):
            picture(place / "images" / f"{wnid}_{i}.JPEG", seed=3 * number + i)
        boxes = "".join(f"{wnid}_{i}.JPEG\t0\t0\t62\t62\n" for i in range(3))
        (place / f"{wnid}_boxes.txt").write_text(boxes)
    picture(tmp_path / "val" / "images" / "val_0.JPEG", seed=10)
    picture(tmp_path / "val" / "images" / "val_1.JPEG", gray=90)
    (tmp_path / "val" / "val_annotations.txt").write_text(
        "val_1.JPEG\tn07614500\t0\t0\t62\t62\nval_0.JPEG\tn02123045\t0\t0\t62\t62\n"
    )
    for i in range(2):
        picture(tmp_path / "test" / "images" / f"test_{i}.JPEG", seed=20 + i)
    return tmp_path


def test_the_layout(folder: Path) -> None:
    data = TinyImageNet.read(folder, subtract_mean=False)
    assert data.class_names == [["tabby", "tabby cat"], ["ice cream", "icecream"]]
    assert data.X_train.shape == (6, 3, 64, 64)
    assert data.X_train.dtype == np.float32
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.y_val.tolist() == [1, 0]
    assert (data.X_val[0] == data.X_val[0, :1]).all()  # gray: three equal channels
    again = picture(folder / "copy.jpg", seed=4)
    np.testing.assert_array_equal(data.X_train[4], again)
    assert data.X_test.shape == (2, 3, 64, 64)
    assert data.y_test is None


def test_the_mean_image_of_training_is_subtracted_everywhere(folder: Path) -> None:
    raw = TinyImageNet.read(folder, subtract_mean=False)
    data = TinyImageNet.read(folder, dtype="float64")
    np.testing.assert_allclose(data.mean_image, raw.X_train.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.X_val, raw.X_val - data.mean_image, atol=1e-4)
    np.testing.assert_allclose(data.X_train.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(data.mean_pixel, raw.X_train.mean(axis=(0, 2, 3)), rtol=1e-6)


def test_answers_of_the_test_images(folder: Path) -> None:
    (folder / "test" / "test_annotations.txt").write_text(
        "test_1.JPEG\tn02123045\t0\ntest_0.JPEG\tn07614500\t0\n"
    )
    data = TinyImageNet.read(folder, subtract_mean=False)
    assert data.y_test is not None
    assert data.y_test.tolist() == [0, 1]
    np.testing.assert_array_equal(data.X_test[0], picture(folder / "copy.jpg", seed=21))


def test_what_is_wrong_is_named(folder: Path) -> None:
    picture(folder / "test" / "images" / "test_0.JPEG", side=65)
    with pytest.raises(DataError, match=r"test_0\.JPEG: is 65 × 65, not 64 × 64"):
        TinyImageNet.read(folder)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn09999999\t0\n")
    with pytest.raises(DataError, match=r"class n09999999, which wnids\.txt does not list"):
        TinyImageNet.read(folder)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt, line 1: has 1 fields, not 2"):
        TinyImageNet.read(folder)
    for name in ("../../x.JPEG", "/etc/x", "a\\b.JPEG"):
        (folder / "val" / "val_annotations.txt").write_text(f"{name}\tn02123045\t0\n")
        with pytest.raises(DataError, match="is not the name of a file in the folder images"):
            TinyImageNet.read(folder)
    (folder / "words.txt").unlink()
    with pytest.raises(DataError, match=r"words\.txt: no such file"):
        TinyImageNet.read(folder)
