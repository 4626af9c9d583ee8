"""What is transparent in a photograph stays so in its dream and in its painting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from small_networks import Small, photo

from dlmie.data.images import load_image, save_image
from dlmie.data.images.pixels import ImageError
from dlmie.visualize import dream, stylize
from dlmie.visualize.figures.figure import Figure
from dlmie.visualize.figures.sources import SourceImage
from dlmie.visualize.reproduction import reproduce


@pytest.fixture(scope="module")
def sticker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph whose left half is transparent, and one column half so."""
    alpha = np.full((32, 40), 255, np.uint8)
    alpha[:, :20] = 0
    alpha[:, 20] = 128
    folder = tmp_path_factory.mktemp("stickers")
    return save_image(folder / "sticker.png", photo(32, 40), alpha)


@pytest.fixture(scope="module")
def dreamt(small32: Small, sticker: Path) -> Figure:
    return dream(small32["conv2"], sticker, octaves=1, steps=1)


def opacity(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        assert image.mode == "RGBA"
        return np.asarray(image.getchannel("A"))


def test_a_dream_keeps_it(small32: Small, dreamt: Figure, sticker: Path, tmp_path: Path) -> None:
    path = dreamt.save(tmp_path / "dream.png")
    with PIL.Image.open(sticker) as original:
        np.testing.assert_array_equal(opacity(path), np.asarray(original.getchannel("A")))
    assert (load_image(path)[:, :20] == 255).all()
    again = reproduce(path, model=small32).save(tmp_path / "again.png")
    assert again.read_bytes() == path.read_bytes()
    assert load_image(dreamt.save(tmp_path / "dream.jpg")).shape == (32, 40, 3)


def test_so_does_a_painting_of_another_size(small32: Small, sticker: Path, tmp_path: Path) -> None:
    made = stylize(
        small32, sticker, photo(20, 20, seed=1), content_layer="conv2", style_layers=["conv1"],
        longer=20, octaves=1, steps=2,
    )  # fmt: skip
    alpha = opacity(made.save(tmp_path / "styled.png"))
    assert alpha.shape == (16, 20)
    assert (alpha[:, :9] == 0).all()
    assert (alpha[:, 12:] == 255).all()


def test_opaque_photographs_have_none() -> None:
    assert SourceImage.read(photo(32, 40)).opacity((16, 20)) is None


def test_figures_of_panels_are_opaque(dreamt: Figure, tmp_path: Path) -> None:
    for number, other in enumerate((dreamt.figure(), dreamt.strip())):
        with PIL.Image.open(other.save(tmp_path / f"{number}.png")) as image:
            assert image.mode == "RGB"


def test_opacity_must_fit(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="opacity"):
        save_image(tmp_path / "a.png", photo(4, 4), np.zeros((3, 4), np.uint8))
