"""Files that version 0.1.0 wrote load, resume and reproduce."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import dlmie
from dlmie.data import Captions, Features
from dlmie.data.images import load_image
from dlmie.models import EfficientNetLite0
from dlmie.training.runs import read_config
from dlmie.visualize import reproduce

FILES = Path(__file__).parent / "golden" / "v0.1.0"
FEATURES = "scenes.efficientnet-lite0-block10-64.features.h5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that may be written to, with the data not where they were."""
    return Path(shutil.copytree(FILES, tmp_path / "old"))


def read(name: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((FILES / name).read_text(encoding="utf-8"))
    return document


def test_prepared_data_and_features() -> None:
    data = Captions(FILES / "scenes.h5")
    assert {split.name: len(split) for split in data} == {"train": 24, "dev": 6, "test": 4}
    assert data["dev"].hash == read("evaluate.json")["protocol"]["data_hash"]  # type: ignore[index]
    assert data.hash == read_config(FILES / "run").data.hash
    features = Features(FILES / FEATURES)
    assert features.read("dev", [0, 5]).shape == (2, 112, 4, 4)
    assert features.header["data"] == data.hash


def test_a_model_captions_as_it_did() -> None:
    (expected,) = json.loads((FILES / "caption.json").read_text(encoding="utf-8"))
    best, *_ = dlmie.load(FILES / "model.h5")(FILES / "cat.png")
    assert best.text == expected["caption"]
    assert best.log_probability == pytest.approx(expected["log_probability"], rel=1e-5)


def test_a_run_is_scored_as_it_was() -> None:
    expected, data = read("evaluate.json"), Captions(FILES / "scenes.h5")
    found = dlmie.evaluate(FILES / "run", data["dev"], beam=2).to_json()
    for name in ("bleu_1", "bleu_4", "rouge_l", "cider_d"):
        assert found[name] == pytest.approx(expected[name], abs=1e-9), name


def test_a_run_resumes_as_it_would_have(folder: Path) -> None:
    run = dlmie.resume(folder / "run", epochs=4, data=folder / "scenes.h5", progress=False)
    lines = (FILES / "resumed.jsonl").read_text(encoding="utf-8").splitlines()
    expected = [record for record in map(json.loads, lines) if "epoch" in record]
    found = [record for record in run.log if "epoch" in record]
    assert [record["epoch"] for record in found] == [1, 2, 3, 4]
    for one, other in zip(found, expected, strict=True):
        for name in ("loss", "dev_loss", "bleu_1", "cider_d"):
            assert one[name] == pytest.approx(other[name], rel=1e-5), name
    assert read_config(folder / "run").optimizer[0]["transform"] == "clip_norm"


def test_a_manifest_makes_the_same_picture(folder: Path) -> None:
    figure = reproduce(folder / "saliency.json", EfficientNetLite0())
    figure.overlay().save(folder / "again.png")
    again, before = (
        load_image(folder / f"{name}.png").astype(int) for name in ("again", "saliency")
    )
    assert again.shape == before.shape
    assert np.abs(again - before).mean() < 0.5
