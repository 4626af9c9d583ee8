"""The command that makes the gallery, at small size; the gallery as it is stored."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from dlmie.data.images import load_image
from dlmie.errors import DlmieError
from dlmie.visualize.figures.manifests import read_manifest
from dlmie.visualize.reproduction import _ARGUMENTS, _PICTURES, _check_arguments

ROOT = Path(__file__).resolve().parents[2]


def load_gallery() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "examples" / "gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module  # where dataclasses look for their module
    spec.loader.exec_module(module)
    return module


GALLERY = load_gallery()
NAMES = GALLERY.NAMES
STORED = sorted((ROOT / "docs" / "gallery").glob("*.*g*"))  # .jpg and .gif
QUICK = ("activations", "dream")


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    with GALLERY.workshop() as folder:
        yield folder


def check(path: Path) -> None:
    assert path.stat().st_size < GALLERY.LARGEST
    image = load_image(path)
    assert min(image.shape[:2]) > 30
    assert image.std() > 5  # not blank
    assert read_manifest(path)["network"]["weights"]["sha256"]


@pytest.mark.filterwarnings("ignore::dlmie.visualize.synthesis.adversarial.FoolingWarning")
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_pictures_at_small_size(name: str, workshop: Path, tmp_path: Path) -> None:
    check(GALLERY.make(name, tmp_path, small=True))


@pytest.mark.parametrize("picture", STORED, ids=lambda path: path.stem)
def test_a_stored_picture_stands_in_the_page_with_its_command(picture: Path) -> None:
    text = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    check(picture)
    assert picture.stem in NAMES
    place = f"(gallery/{picture.name})"
    assert place in text
    if picture.stem not in GALLERY.GALLERY:
        return
    entry = GALLERY.GALLERY[picture.stem]
    command = next(t for t in text.partition(place)[2].splitlines() if t.startswith("`dlmie"))
    known = [plain(entry.command.format(one)) for one in entry.several or ("",)]
    assert any(plain(command).startswith(one) for one in known)
    assert plain(read_manifest(picture)["command"]) in known


def plain(command: str) -> str:
    """A command without its quotes."""
    return command.strip("`").replace('"', "")


def test_every_picture_is_stored_with_its_manifest_and_all_are_small() -> None:
    assert {p.stem for p in STORED} == set(NAMES)
    stored = list((ROOT / "docs" / "gallery").iterdir())
    assert sorted(p.stem for p in stored) == sorted(2 * [p.stem for p in STORED])
    assert sum(p.stat().st_size for p in stored) < 3_000_000


@pytest.mark.parametrize("picture", STORED, ids=lambda path: path.stem)
def test_the_arguments_of_stored_pictures_are_known(picture: Path) -> None:
    manifest = read_manifest(picture)
    if manifest["picture"] in _PICTURES:
        arguments = {_ARGUMENTS.get(n, n): value for n, value in manifest["arguments"].items()}
        _check_arguments(manifest["picture"], arguments)
        for name in arguments:
            with pytest.raises(DlmieError, match="is not known"):
                _check_arguments(manifest["picture"], {f"{name}_": 1})
