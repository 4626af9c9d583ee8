"""The commands that make pictures: what they write, say and refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dlmie.data.images import load_image

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage import data

    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    PIL.Image.fromarray(data.chelsea()[::2, ::2]).save(path)
    return path


@pytest.fixture
def run(invoke: Any, cat: Path) -> Run:
    def call(*words: object) -> dict[str, Any]:
        result = invoke(*words, "--json", "--quiet")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return call


def test_saliency_and_the_same_again(run: Run, cat: Path) -> None:
    out = cat.with_name("saliency.png")
    told = run("saliency", cat, "--method", "gradient", "--target", "tiger cat", "-o", out)
    assert told["label"] == "tiger cat"
    assert load_image(out).shape == (150, 226, 3)
    assert Path(told["manifest"]) == out.with_suffix(".json")
    again = cat.with_name("again.png")
    for command in ("reproduce", "redo"):  # the old name
        run(command, told["manifest"], "--output", again)
        np.testing.assert_array_equal(load_image(again), load_image(out))
        again.unlink()


def test_fool_needs_no_option_and_fools_as_saved(run: Run, cat: Path) -> None:
    out, figure = cat.with_name("fooled.png"), cat.with_name("panels.pdf")
    told = run("fool", cat, "--output", out, "--figure", figure)
    assert told["fooled"]
    assert told["largest_change"] <= 8
    assert figure.read_bytes().startswith(b"%PDF")
    seen = run("classify", out)
    assert seen[0]["top"][0]["label"] == told["to"]
    assert seen[0]["top"][0]["probability"] >= 0.9


def test_the_other_pictures(run: Run, cat: Path) -> None:
    out = cat.with_name("picture.png")
    told = run("visualize", "--target", 292, "--size", 64, "--steps", 2, "-o", out)
    assert told["labels"] == ["tiger"]
    assert load_image(out).shape == (64, 64, 3)
    run(
        *("visualize", "--layer", "block4", "--channel", 3, "--place", 2, 1),
        *("--size", 64, "--steps", 2, "--figure", cat.with_name("way.svg"), "-o", out),
    )
    assert "Iteration 1 / 2" in cat.with_name("way.svg").read_text()
    small = ("--encoder", "tiny-imagenet", "--encoder-weights", "random")  # knows one size alone
    run("visualize", "--target", 3, *small, "--steps", 1, "-o", out)
    assert load_image(out).shape == (64, 64, 3)
    told = run("invert", cat, "--layer", "stem", "--steps", 2, "-o", out)
    assert told["layer"] == "stem"
    moving = cat.with_name("zoom.gif")
    run(
        *("dream", cat, "--longer", 64, "--octaves", 1, "--steps", 1, "--zoom", 2),
        *("--animation", moving, "-o", out),
    )
    assert moving.read_bytes().startswith(b"GIF89a")
    run(
        *("style", "--content", cat, "--style", cat, "--longer", 64, "--octaves", 1),
        *("--steps", 2, "--original-colours", "-o", out),
    )
    assert json.loads(out.with_suffix(".json").read_text())["arguments"]["original_colours"]
    assert load_image(out).shape[1] == 64


def test_misuse_and_mistakes_are_one_line(fails: Any, cat: Path) -> None:
    assert "did you mean 'flamingo'" in fails("fool", cat, "--target", "flamingoo")
    assert "did you mean 'block5'" in fails("invert", cat, "--layer", "blok5")
    assert "no such file" in fails("dream", cat.with_name("nothing.png"))
    assert "must end in .png" in fails("dream", cat, "-o", "dream.tif", code=2)
    assert "--channel needs --layer" in fails("visualize", "--channel", 3, code=2)
    assert "--place needs --channel" in fails("visualize", "--place", 3, 3, code=2)
    assert "no row 70" in fails("visualize", "--layer", "block4", "--channel", 3, "--place", 70, 1)
    assert "did you mean 'block4'" in fails("visualize", "--layer", "blok4")
    assert "at least" in fails("visualize", "--size", 16)
    assert "did you mean" in fails("saliency", cat, "--method", "smoth")
    assert "no such manifest" in fails("reproduce", cat.with_name("nothing.json"))
    assert "--encoder-weights" in fails("saliency", cat, "--encoder", "vgg16", code=2)
