"""Pictures of the shipped captioner's sentences, and activation maps, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dlmie.data.images import load_image


@pytest.fixture(scope="module")
def cat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from skimage import data

    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    PIL.Image.fromarray(data.chelsea()[::2, ::2]).save(path)
    return path


def run(invoke: Any, *words: object) -> dict[str, Any]:
    result = invoke(*words, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


@pytest.mark.slow
def test_a_word_and_the_same_again(invoke: Any, cat: Path) -> None:
    out, figure = cat.with_name("word.png"), cat.with_name("word.svg")
    words = ("--captioner", "flickr8k", "--target", "dog", "--method", "gradient")
    told = run(invoke, "saliency", cat, *words, "--output", out, "--figure", figure)
    assert told["label"] == "dog"
    assert figure.stat().st_size > 10_000
    run(invoke, "reproduce", out, "--output", cat.with_name("again.png"))
    np.testing.assert_array_equal(load_image(cat.with_name("again.png")), load_image(out))


@pytest.mark.slow
def test_a_photograph_says_what_it_is_told_to(invoke: Any, cat: Path) -> None:
    out, sentence = cat.with_name("said.png"), "a man is riding a bike"
    told = run(
        *(invoke, "fool", cat, "--captioner", "flickr8k", "--target", sentence, "--output", out),
    )
    assert told["fooled"]
    assert told["largest_change"] <= 8
    assert run(invoke, "caption", "flickr8k", out)[0]["caption"] == sentence  # type: ignore[index]


def test_sentences_that_cannot_be(fails: Any, cat: Path) -> None:
    captioner = ("--captioner", "flickr8k")
    assert "does not know the words flamingo" in fails("visualize", *captioner)
    assert "--layer does not go" in fails("visualize", *captioner, "--layer", "head", code=2)


def test_activation_maps(invoke: Any, fails: Any, cat: Path) -> None:
    out, figure = cat.with_name("maps.png"), cat.with_name("maps.pdf")
    told = run(
        *(invoke, "activations", cat, "--layer", "block1", "--channels", "3,5", "--columns", 6),
        *("--cell", 56, "--output", out, "--figure", figure),
    )
    assert told["strongest"] == [3, 5]
    assert load_image(out).shape == (4 * 56 + 6, 6 * 56 + 10, 3)  # 24 maps
    assert figure.read_bytes().startswith(b"%PDF")
    assert "give numbers with commas" in fails("activations", cat, "--channels", "3;5", code=2)
