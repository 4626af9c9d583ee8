"""Whatever way a photograph takes to a network, the network sees the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import skimage.data

from dlmie.data import Captions
from dlmie.data.images import Preprocessing, load_image, preprocess, resize_image, save_image


def test_training_and_captioning_see_the_same_bits(tmp_path: Path) -> None:
    names = []
    for name in ("chelsea", "coffee"):
        save_image(tmp_path / f"{name}.jpg", getattr(skimage.data, name)())
        names.append(f"{name}.jpg")
    (tmp_path / "captions.json").write_text(json.dumps({n: ["a cup"] for n in names}))
    splits = {"train": names}
    expected = Preprocessing(96, mean=(127.0, 127.0, 127.0), scale=(128.0, 128.0, 128.0))
    captioned = np.stack(
        [preprocess(resize_image(load_image(tmp_path / name), 96), expected) for name in names]
    )
    for store in ("pixels", "paths"):
        data = Captions.prepare(
            tmp_path / "captions.json",
            to=tmp_path / f"{store}.h5",
            size=96,
            min_count=1,
            splits=splits,
            store=store,
            progress=False,
        )
        order = [data["train"].names.index(name) for name in names]
        trained = preprocess(data["train"].load_images(order), expected)
        np.testing.assert_array_equal(trained, captioned)


def test_whole_images_and_resized_ones_are_the_same() -> None:
    """``preprocess`` resizes as ``prepare`` does, so that it does not matter who resizes."""
    expected = Preprocessing(64, mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
    photograph = skimage.data.chelsea()
    resized = resize_image(photograph, 64)
    np.testing.assert_array_equal(preprocess(photograph, expected), preprocess(resized, expected))
