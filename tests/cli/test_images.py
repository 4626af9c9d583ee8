"""Folders of any size: bounded memory, results as they come; and the classifying command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.captioning.photographs import _batches, _read
from dlmie.data.images import ImageError


def test_reading_stays_a_few_batches_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(source: str, size: int) -> np.ndarray:
        loaded.append(source)
        if source == "photo7":
            raise ImageError("photo7: broken")
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setattr("dlmie.captioning.photographs.load_image", load)

    def names() -> Iterator[str]:
        for number in range(1000):
            yield f"photo{number}"

    seen = 0
    for batch in _read(_batches(names(), 4), 32):
        assert batch.start == seen
        seen += len(batch.images)
        assert len(loaded) <= seen + 3 * 4  # one batch waits, one is being made
        for name, pixels in zip(batch.images, batch.pixels, strict=True):
            if name == "photo7":
                assert isinstance(pixels, ImageError)
            else:
                assert pixels.shape == (32, 32, 3)  # not the photograph itself
        if seen >= 100:
            break
    assert len(loaded) < 120


class TestClassify:
    ENCODER = ("--encoder", "tiny-imagenet", "--encoder-weights", "random")

    def test_json(self, photographs: Path, invoke: Any) -> None:
        result = invoke("classify", photographs, *self.ENCODER, "--json", "--top", 3)
        assert result.exit_code == 0, result.output
        items = json.loads(result.stdout)
        assert sum(set(item) == {"image", "error"} for item in items) == 4
        items = [item for item in items if "error" not in item]
        assert len(items) == 7
        assert set(items[0]) == {"image", "top"}
        top = items[0]["top"]
        assert [set(guess) for guess in top] == [{"index", "label", "probability"}] * 3
        assert top[0]["probability"] >= top[1]["probability"] >= top[2]["probability"]

    def test_text_and_strict(self, photographs: Path, invoke: Any) -> None:
        result = invoke("classify", photographs, *self.ENCODER, "--strict", "--top", 1, "-q")
        assert result.exit_code == 1
        assert " %  class " in result.stdout
        assert "4 of 11" in result.stderr

    def test_json_to_a_file(self, photographs: Path, tmp_path: Path, invoke: Any) -> None:
        to = tmp_path / "classes.json"
        words = (photographs / "gray.png", *self.ENCODER, "--json", "--output", to, "--quiet")
        result = invoke("classify", *words)
        assert result.stdout == ""
        assert len(json.loads(to.read_text())) == 1

    def test_nothing_to_do(self, photographs: Path, tmp_path: Path, fails: Any) -> None:
        assert "no image in this folder" in fails("classify", tmp_path, *self.ENCODER)
        assert "no such file" in fails("classify", tmp_path / "none", *self.ENCODER)
        assert "--encoder-weights" in fails("classify", photographs, "--encoder", "vgg16", code=2)
        assert "at least one image" in fails("classify", code=2)

    def test_the_list_of_classes(self, invoke: Any) -> None:
        listed = invoke("classify", "--list").stdout.splitlines()
        assert len(listed) == 1000
        assert listed[130] == " 130  flamingo"
        assert json.loads(invoke("classify", "--list", "--json").stdout)[0] == "tench"
