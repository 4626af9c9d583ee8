"""A captioner is named before the images, or not at all."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import pytest

from dlmie.captioning.captioner import DEFAULT, SHIPPED
from dlmie.captioning.model_files import find_model
from dlmie.cli.captioners import captioner_and_images, split_names
from dlmie.data.images import save_image
from dlmie.errors import WeightsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, a model file, photographs and an empty folder, and the work goes on beside them."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "begun", "photos", "empty", "odd,name"):
        (tmp_path / name).mkdir()
    for name in ("run/best.h5", "begun/config.json", "model.h5"):
        (tmp_path / name).touch()
    for name in ("photo.jpg", "photos/a.png", "run/figure.png"):
        save_image(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "names", "images"),
    [
        (["photo.jpg"], [DEFAULT], ["photo.jpg"]),
        (["photos"], [DEFAULT], ["photos"]),
        (["-"], [DEFAULT], ["-"]),
        (["photo.jpg", "photos"], [DEFAULT], ["photo.jpg", "photos"]),
        (["photos", "photo.jpg"], [DEFAULT], ["photos", "photo.jpg"]),
        (["missing.jpg"], [DEFAULT], ["missing.jpg"]),  # said when it is read
        (["missing.jpg", "photo.jpg"], [DEFAULT], ["missing.jpg", "photo.jpg"]),
        (["flickr8k", "photo.jpg"], ["flickr8k"], ["photo.jpg"]),
        (["run", "photo.jpg"], ["run"], ["photo.jpg"]),  # though it holds a figure
        (["model.h5", "photo.jpg"], ["model.h5"], ["photo.jpg"]),
        (["run,model.h5", "photos"], ["run", "model.h5"], ["photos"]),
        (["flikr8k", "photos"], ["flikr8k"], ["photos"]),  # said when it is loaded
        (["empty", "photos"], ["empty"], ["photos"]),
        (["odd,name", "photos"], ["odd,name"], ["photos"]),
        (["model.h5", "run"], ["model.h5"], ["run"]),  # which holds a figure
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_meant(words: list[str], names: list[str], images: list[str]) -> None:
    assert captioner_and_images(words) == (names, images)


@pytest.mark.parametrize("model", ["flickr8k", "run", "begun", "run,flickr8k"])
@pytest.mark.usefixtures("folder")
def test_a_captioner_alone_captions_nothing(model: str) -> None:
    with pytest.raises(click.UsageError, match=f"name the images after {model}"):
        captioner_and_images([model])


@pytest.mark.usefixtures("folder")
def test_captioners_that_decide_together_have_commas() -> None:
    with pytest.raises(click.UsageError, match=r"begun is a run, not an image; .*: run,begun"):
        captioner_and_images(["run", "begun", "photo.jpg"])
    with pytest.raises(WeightsError, match="decide together in dlmie caption, attend, eval"):
        find_model("run,begun")


def test_the_default_is_shipped() -> None:
    assert DEFAULT in SHIPPED
    assert split_names("a,b,") == ["a", "b"]
    assert split_names(",") == [","]


@pytest.mark.usefixtures("folder")
def test_a_folder_without_a_run_does_not_hide_a_shipped_captioner() -> None:
    Path("flickr8k").mkdir()
    save_image(Path("flickr8k/a.png"), np.zeros((4, 4, 3), np.uint8))
    assert captioner_and_images(["flickr8k", "photo.jpg"]) == (["flickr8k"], ["photo.jpg"])
    assert captioner_and_images(["./flickr8k"]) == ([DEFAULT], ["./flickr8k"])
    assert captioner_and_images(["photo.jpg", "flickr8k"])[1] == ["photo.jpg", "flickr8k"]
    with pytest.raises(
        click.UsageError, match=r"name the images after flickr8k \(the folder is ./"
    ):
        captioner_and_images(["flickr8k"])
    assert find_model("flickr8k").name == "flickr8k.h5"
    Path("flickr8k/best.h5").touch()
    assert find_model("flickr8k") == Path("flickr8k/best.h5")
