"""The command that makes the gallery, at small size; the gallery as it is stored."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from dlmie.data.images import load_image
from dlmie.visualize.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(path: Path) -> None:
    assert path.stat().st_size < 200_000
    image = load_image(path)
    assert min(image.shape[:2]) > 30
    assert image.std() > 5  # not blank
    assert read_manifest(path)["network"]["weights"]["sha256"]


@pytest.mark.filterwarnings("ignore::dlmie.visualize.adversarial.FoolingWarning")
@pytest.mark.parametrize("name", ["saliency", "fool", "dream"])
def test_pictures_at_small_size(name: str, gallery: ModuleType, tmp_path: Path) -> None:
    check(gallery.Gallery(tmp_path, small=True).save(name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::dlmie.visualize.adversarial.FoolingWarning")
def test_all_pictures_at_small_size(gallery: ModuleType, tmp_path: Path) -> None:
    made = gallery.Gallery(tmp_path, small=True)
    for name in gallery.PICTURES:
        check(made.save(name))


def test_the_stored_gallery(gallery: ModuleType) -> None:
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    pictures = sorted((ROOT / "docs" / "gallery").glob("*.jpg"))
    assert {p.stem for p in pictures} == set(gallery.PICTURES)
    for picture in pictures:
        check(picture)
        assert f"gallery/{picture.name}" in text
    assert sum(p.stat().st_size for p in pictures) < 3_000_000
