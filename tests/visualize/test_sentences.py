"""Captions meet gradients: saliency of words, photographs that say a sentence, dreamt sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import Small, photo

from dlmie import captioning as hub
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images import load_image, preprocess, save_image
from dlmie.errors import DlmieError
from dlmie.models import ShowAttendTell, ShowTell
from dlmie.visualize import fool, reproduce, saliency, visualize
from dlmie.visualize.ascent.evaluation import Evaluator
from dlmie.visualize.ascent.objectives import (
    from_json,
    sentence_log_likelihood,
    sentence_with_class_energy,
)
from dlmie.visualize.synthesis.adversarial import FoolingWarning

WORDS = ["a", "red", "dog", "sits", "on", "grass"]


@pytest.fixture(scope="module")
def captioner(small32: Small, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A captioner with random weights on the small network, as if loaded from a file."""
    return make_captioner(
        ShowAttendTell, small32, tmp_path_factory.mktemp("captioner"), attention=5
    )


def make_captioner(kind: Any, network: Small, folder: Path, **options: Any) -> Any:
    vocabulary = Vocabulary.build([WORDS], min_count=1)
    model = kind(network["conv2"], vocabulary, embedding=5, hidden=6, **options)
    path = folder / "captioner.h5"
    path.write_bytes(b"weights")
    member = hub.Member(model, {"encoder": {"layer": "conv2"}}, path, {})
    member.encoder = hub.Encoder(network, "conv2")
    made = hub.ImageCaptioner([member])
    for seed in range(100):  # of random weights, some that speak, and see a difference
        rng = np.random.default_rng(seed)
        for p in model.parameters:
            p.set_value(rng.normal(0, 0.8, p.get_value().shape).astype(np.float32))
        photos = [photo(24, 30), photo(24, 30, seed=7)]
        said = {c[0].text for c in made(photos, length_norm=0.7)}  # short captions
        if len(said) == 2 and all(2 <= len(text.split()) <= 6 for text in said):
            return made
    raise AssertionError("none of these captioners sees anything")


def test_saliency_of_a_word_stands_beside_its_attention(captioner: Any, small32: Small) -> None:
    words = captioner(photo(24, 30))[0].text.split()
    figures = [
        saliency(captioner, photo(24, 30), target, method="gradient")
        for target in (0, 1, None, "red dog")
    ]
    maps = [figure.arrays["attribution"] for figure in figures]
    assert all(m.max() > 0 for m in maps)
    assert len({m.tobytes() for m in maps}) == 4
    assert [p.title for p in figures[1].panels[3:]] == [f"attention: {words[1]}"]
    assert figures[1].panels[3].image.shape == (24, 30, 3)
    assert len(figures[2].panels) == len(figures[3].panels) == 3  # a sentence has no one map
    with pytest.raises(DlmieError, match="has no word 'dogs'"):
        saliency(captioner, photo(24, 30), "dogs")
    with pytest.raises(DlmieError, match=f"has words 0 to {len(words) - 1}"):
        saliency(captioner, photo(24, 30), len(words))
    with pytest.raises(DlmieError, match="does not know the words zebra"):
        saliency(captioner, photo(), "a zebra")


def test_a_captioner_without_attention_has_no_such_panel(small32: Small, tmp_path: Path) -> None:
    plain = make_captioner(ShowTell, small32, tmp_path)
    assert len(saliency(plain, photo(24, 30), 0, method="gradient").panels) == 3


def test_a_photograph_is_made_to_say_a_sentence(captioner: Any, tmp_path: Path) -> None:
    path = save_image(tmp_path / "photo.png", photo(24, 30))
    before, *others = captioner(path, n_best=3)
    wanted = captioner(photo(24, 30, seed=7))[0].text
    figure = fool(captioner, path, wanted, budget=255, steps=400)
    results = figure.manifest["results"]
    assert results["fooled"]
    assert (results["from"], results["to"]) == (before.text, wanted)
    assert results["log_probability_after"] > results["log_probability_before"]
    saved = figure.save(tmp_path / "fooled.png")
    assert captioner(saved)[0].text == wanted == results["said"]
    again = reproduce(saved, captioner)
    np.testing.assert_array_equal(again.image, load_image(saved))
    with pytest.warns(FoolingWarning, match="larger budget"):
        alone = fool(captioner, path, budget=1, steps=1)
    assert alone.manifest["arguments"]["target"] == next(c.text for c in others if c.words)


def test_sentences_that_cannot_be_said(captioner: Any) -> None:
    said = captioner(photo())[0].text
    with pytest.raises(DlmieError, match="already is"):
        fool(captioner, photo(), said.upper())
    with pytest.raises(DlmieError, match="with a sentence"):
        fool(captioner, photo(), 3)
    for neither in (3, "flickr8k", None):
        with pytest.raises(DlmieError, match="needs a network or a captioner"):
            fool(neither, photo(), "a dog")  # type: ignore[arg-type]
    with pytest.warns(FoolingWarning, match="not 'grass grass'"):
        figure = fool(captioner, photo(), "grass grass", budget=1, steps=2)
    assert not figure.manifest["results"]["fooled"]


def test_a_captioner_that_sees_image_and_mirror_image(
    captioner: Any, small32: Small, tmp_path: Path
) -> None:
    member = replace(captioner.members[0])
    member.encoder = hub.Encoder(small32, "conv2", average_flip=True)
    both = hub.ImageCaptioner([member])
    size = small32.preprocessing.size
    picture = photo(size, size)
    x = preprocess(picture[None], small32.preprocessing)
    told = [model.force(picture, "a red dog").log_probability for model in (captioner, both)]
    assert abs(told[0] - told[1]) > 1e-3
    for model, expected in zip((captioner, both), told, strict=True):
        value, _ = Evaluator(sentence_log_likelihood(model, "a red dog"), size)(x)
        assert float(value[0]) == pytest.approx(expected, rel=1e-4)
    # Both images count in the maps, too: those of the mirror image are the mirrored ones.
    for method in ("grad-cam", "grad-cam++"):
        one, other = (
            saliency(both, image, "a red dog", method=method).arrays["attribution"]
            for image in (picture, picture[:, ::-1])
        )
        np.testing.assert_allclose(other[:, ::-1], one, rtol=1e-3, atol=1e-3 * one.max())
        alone = saliency(captioner, picture, "a red dog", method=method).arrays["attribution"]
        assert np.abs(alone - one).max() > 1e-2 * one.max()


@pytest.mark.slow
def test_an_image_is_dreamt_from_a_sentence(captioner: Any, tmp_path: Path) -> None:
    objective = sentence_with_class_energy(captioner, "a red dog")
    figure = visualize(objective, size=16, steps=12, rate=0.1, jitter=0, scale=0, rotate=0)
    results = figure.manifest["results"]
    assert results["last"] > results["first"]
    assert results["labels"] == ["a red dog"]
    larger = visualize(objective, size=28, octaves=2, steps=2)  # than photographs: more cells
    assert larger.image is not None
    assert larger.image.shape == (28, 28, 3)
    saved = figure.save(tmp_path / "dreamt.png")
    np.testing.assert_array_equal(reproduce(saved, captioner).image, figure.image)
    captioner.members[0].path.write_bytes(b"other weights")
    with pytest.raises(DlmieError, match=r"was made with small .* and captioner"):
        reproduce(saved, captioner)
    again = from_json(objective.to_json(), captioner)
    assert str(again) == str(objective)
    likelihood = "sentence_log_likelihood(a red dog)"
    assert str(objective) == f"0.25 × {likelihood} + 0.1 × class_energy(logits)"
    assert str(sentence_log_likelihood(captioner, "a red dog")) == likelihood
    former = {"sentence_log_likelihood": "says", "class_energy": "evidence"}
    old = [(weight, former[kind], options) for weight, kind, options in objective.to_json()]
    assert str(from_json(old, captioner)) == str(objective)  # as version 0.1 wrote it
