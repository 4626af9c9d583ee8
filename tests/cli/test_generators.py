"""train, evaluate, sample and inspect with generators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from classification_cases import make_data

# What has learned for six steps makes images that look alike, and is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:mode collapse:dlmie.errors.CollapseWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_data(tmp_path_factory.mktemp("generators"))
    made.close()
    return made.path


@pytest.fixture(scope="module")
def run(data: Path, invoke: Any) -> Path:
    to = data.parent / "run"
    options = ("--epochs", 2, "--batch", 20, "--scored-images", 20, "--picture-every", 2)
    result = invoke("train", data, "--model", "gan", "--latent", 4, "--to", to, *options, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["monitor"] == "pixel_frechet"
    return to


def test_configuration(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["task"] == "generation"
    assert config["model"]["config"]["latent"] == 4
    assert config["objective"]["kind"] == "vanilla"
    assert config["optimizer"][0]["beta1"] == 0.5


def test_evaluate(run: Path, invoke: Any) -> None:
    result = invoke("evaluate", run, "--images", 20, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["pixel_frechet"] > 0
    assert document["histogram"] is None
    assert document["protocol"]["images"] == 20


def test_sample(run: Path, invoke: Any, tmp_path: Path) -> None:
    sheet, film = tmp_path / "sheet.png", tmp_path / "film.gif"
    words = ("sample", run, "--to", sheet, "--animation", film, "--count", 6, "--columns", 3)
    result = invoke(*words, "--scale", 2)
    assert result.exit_code == 0, result.output
    with PIL.Image.open(sheet) as image:
        assert image.size == (3 * 4 * 2, 2 * 4 * 2)
    with PIL.Image.open(film) as image:
        assert image.size == (4 * 4 * 2, 4 * 4 * 2)
        assert image.n_frames == 3  # before steps 1, 3 and 5 of 6
    again = tmp_path / "again.png"
    invoke("sample", run, "--to", again, "--count", 6, "--columns", 3, "--scale", 2)
    assert again.read_bytes() == sheet.read_bytes()


def test_misuse_is_one_line(run: Path, data: Path, invoke: Any, tmp_path: Path) -> None:
    cases = [
        (("sample", run), "say what to make"),
        (("sample", run, "--animation", tmp_path / "a.png"), "must end in .gif"),
        (("sample", run / "best.h5", "--animation", tmp_path / "a.gif"), "not the run of a"),
        (("evaluate", run, "--beam", 3), "does not apply to generators"),
        (("train", data, "--model", "dc-gan", "--to", tmp_path / "r"), "multiples of 4, from 16"),
        (("train", data, "--model", "gan", "--to", tmp_path / "r", "--penalty", 1), "no meaning"),
        (("train", data, "--model", "gan", "--to", tmp_path / "r", "--gamma", 0.5), "no meaning"),
    ]
    for words, message in cases:
        result = invoke(*words)
        assert result.exit_code in (1, 2)
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
