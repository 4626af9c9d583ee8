"""The scripts of examples/ run, one after the other, on a few scenes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT

# The gallery is no example but the maker of docs/gallery.
SCRIPTS = [p for p in sorted((ROOT / "examples").glob("*.py")) if p.stem != "gallery"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_short_and_say_how_to_run_them(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert f"python examples/{script.name}" in text
    assert "dlmie.cli" not in text  # through the library


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_without_arguments_they_say_how(script: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 1
    assert f"python examples/{script.name}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import skimage.data

    from dlmie.data.images import save_image
    from dlmie.data.scenes import prepare_scenes

    place = tmp_path_factory.mktemp("examples")
    prepare_scenes(place / "scenes.h5", train=24, dev=6, test=0, progress=False)
    save_image(place / "photo.jpg", skimage.data.chelsea())
    return place


def example(folder: Path, name: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.slow
def test_train_caption_evaluate_and_draw(folder: Path) -> None:
    assert "epoch 2:" in example(folder, "train", "scenes.h5", "run", "2")
    assert "epoch 3:" in example(folder, "train", "scenes.h5", "run", "3")
    said = example(folder, "caption", "run", "photo.jpg").splitlines()
    assert said[0].endswith("photo.jpg")
    assert len(said) == 4
    scores = example(folder, "evaluate_bleu", "run", "scenes.h5")
    assert "beam 5: BLEU-1" in scores
    assert "split dev" in scores
    example(folder, "attention_figure", "run", "photo.jpg", "attention.png")
    assert (folder / "attention.png").stat().st_size > 10_000


@pytest.mark.slow
def test_pictures(folder: Path) -> None:
    assert "cat" in example(folder, "gradient", "photo.jpg", "gradient.png")
    assert "class.png" in example(folder, "picture", "photo.jpg", "flamingo", "pictures", "2")
