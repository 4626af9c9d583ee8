"""Images that pictures are made of: each file is decoded once, whatever is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from attention_case import planted, said
from small_networks import Small, photo

from dlmie.data.images import load_image, save_image
from dlmie.visualize import attend, dream, fool, grid, invert, saliency, stylize
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.sources import SourceImage
from dlmie.visualize.synthesis.adversarial import FoolingWarning

MAKERS: dict[str, Callable[[Small, Path], Figure]] = {
    "saliency": lambda net, path: saliency(net, path, method="gradient"),
    "fool": lambda net, path: fool(net, path, budget=1, steps=1),
    "grid": lambda net, path: grid(net["conv2"], path),
    "invert": lambda net, path: invert([net["conv1"], net["conv2"]], path, steps=2),
    "dream": lambda net, path: dream(net["conv2"], path, octaves=1, steps=1),
    "style": lambda net, path: stylize(net, path, photo(), longer=32, octaves=2, steps=1),
    "attend": lambda net, path: attend(said("red", planted(0, 1, (2, 2))[None]), path),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings(f"ignore::{FoolingWarning.__module__}.FoolingWarning")
def test_a_photograph_is_decoded_once(
    name: str, small32: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_image(tmp_path / "photo.png", photo(24, 30))
    decoded, decode = [], PIL.Image.open

    def counted(*arguments: object, **options: object) -> PIL.Image.Image:
        decoded.append(arguments)
        return decode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PIL.Image, "open", counted)
    figure = MAKERS[name](small32, path)
    assert len(decoded) == 1
    described = figure.manifest["images"]["content" if name == "style" else "image"]
    assert described["path"] == str(path)
    assert described["size"] == [24, 30]


def test_what_is_described_is_what_was_read(tmp_path: Path) -> None:
    path = save_image(tmp_path / "photo.png", photo(24, 30))
    source, memory = SourceImage.read(path), SourceImage.read(photo(24, 30))
    np.testing.assert_array_equal(source.pixels, load_image(path))
    assert memory.path is None
    assert memory.describe()["sha256"] == source.describe()["sha256"]
    assert SourceImage.read(photo(24, 30, seed=1)).describe() != memory.describe()
    assert source.within(None).shape == source.within(30).shape == (24, 30, 3)
    assert source.within(15).shape == (12, 15, 3)
