"""Words that name what the encoder's classifier sees gain in a search, until they are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dlmie import captioning
from dlmie.captioning import encoder_header
from dlmie.captioning.decoding import Decoding
from dlmie.captioning.model_files import export, save_model
from dlmie.data.captions.vocabulary import START, Vocabulary
from dlmie.errors import DlmieError
from dlmie.models import EfficientNetLite0, ShowAttendTell, ShowTell
from dlmie.models.captioners.class_words import FLOOR, USUAL
from dlmie.models.encoders import imagenet

VOCABULARY = Vocabulary.build([["a", "cat", "cats", "sits", "dog", "cup", "rocket"]], min_count=1)
SIZES: dict[str, Any] = {"embedding": 6, "hidden": 5, "attention": 7, "global_head": 8}
EGYPTIAN_CAT = 285


def made(**options: Any) -> ShowAttendTell:
    """Every parameter drawn; the classifier, if any, says cat nine times of ten."""
    model = ShowAttendTell((4, 3, 3), VOCABULARY, **(SIZES | options))
    rng = np.random.default_rng(3)
    for p in model.parameters:
        if not str(p.name).startswith("/classes"):
            p.set_value((rng.standard_normal(p.get_value().shape) * 0.5).astype(model.dtype))
    if model.class_words:
        b = np.zeros(1000, model.dtype)
        b[EGYPTIAN_CAT] = np.log(999 * 9)
        model.classifier.b.set_value(b)
    return model


def first_words(model: ShowAttendTell, *said: str) -> np.ndarray:
    """Log-probabilities of the word after START and ``said``: (vocabulary,)."""
    features = np.random.default_rng(0).standard_normal((1, 4, 3, 3)).astype(model.dtype)
    step, state = model.decoder.begin(features)
    for word in [START, *VOCABULARY.encode(list(said))]:
        logs, state, _ = step(np.array([[word]]), state, np.arange(1))
    return logs[0, 0]


def normalized(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)], ids=["float64", "float32"]
)
@pytest.mark.parametrize("context", [None, 3], ids=["plain", "global-context"])
def test_words_gain_what_the_classifier_sees(
    dtype: str, tolerance: float, context: int | None
) -> None:
    plain = made(dtype=dtype, global_context=context)
    model = made(dtype=dtype, global_context=context, class_words=2.0)
    words = imagenet.everyday_words()
    rest = {word: sum(word in each for each in words) for word in ("dog", "cup", "rocket")}
    sees = {word: number * 0.1 / 999 for word, number in rest.items()}
    sees["cat"] = sees["cats"] = 0.9 + 4 * 0.1 / 999  # and four other kinds of cats
    gain = np.zeros(len(VOCABULARY))
    for word, p in sees.items():
        gain[VOCABULARY.encode([word])] = 2.0 * np.log((p + FLOOR) / USUAL)
    assert gain.max() > 6
    assert gain.min() < -1
    assert_allclose(first_words(model), normalized(first_words(plain) + gain), atol=tolerance)
    # "cat" is said: that and "cats" lose what they had gained, and other things keep it.
    after = gain.copy()
    after[VOCABULARY.encode(["cat", "cats"])] *= -1
    for said in (["cat"], ["a", "cat", "sits"], ["cat", "cats"]):
        found = first_words(model, *said)
        assert_allclose(found, normalized(first_words(plain, *said) + after), atol=tolerance)


def test_beams_remember_what_each_has_said() -> None:
    model = made(class_words=4.0)
    features = np.random.default_rng(1).standard_normal((3, 4, 3, 3)).astype(np.float32)
    search = Decoding(beam=3, n_best=3, min_length=3, max_length=8)
    found = search(*model.decoder.begin(features))
    things = {"cat", "cats"}
    for image in found:
        for caption in image:
            words = VOCABULARY.decode(caption.words)
            assert sum(word in things for word in words) == 1, words
    alone = search(*model.decoder.begin(features[1:2]))
    assert alone[0][0].words == found[1][0].words


def test_training_goes_without() -> None:
    plain, model = made(), made(class_words=2.0)
    features = np.random.default_rng(0).standard_normal((2, 4, 3, 3)).astype(np.float32)
    tokens = np.array([[START, 4, 5, 6], [START, 7, 8, 4]], np.int32)
    assert_allclose(plain.loss_function(features, tokens), model.loss_function(features, tokens))
    assert {p.name for p in model.parameters} - {p.name for p in plain.parameters} == {
        "/classes/W",
        "/classes/b",
    }
    assert not any("trainable" in p.roles for p in model.copied)


def test_what_cannot_be() -> None:
    with pytest.raises(DlmieError, match="class_words needs global_head"):
        ShowAttendTell((4, 3, 3), VOCABULARY, **(SIZES | {"global_head": None}), class_words=1.0)
    with pytest.raises(DlmieError, match="class_words is -1"):
        ShowAttendTell((4, 3, 3), VOCABULARY, **SIZES, class_words=-1.0)
    other = EfficientNetLite0(size=64, weights=None, output_stride=16, classes=10)
    with pytest.raises(DlmieError, match="does not read ImageNet's classes from 1280 units"):
        ShowAttendTell(
            other["block15"], VOCABULARY, **(SIZES | {"global_head": 1280}), class_words=1.0
        )


def test_export_adds_them_to_a_trained_captioner(tmp_path: Path) -> None:
    network = EfficientNetLite0(size=64, output_stride=16)
    sizes = SIZES | {"global_head": 1280}
    model = ShowAttendTell(network["block15"], VOCABULARY, **sizes)
    header = encoder_header(network, "block15")
    save_model(model, tmp_path / "plain.h5", encoder=header)
    export(tmp_path / "plain.h5", tmp_path / "named.h5", dtype=None, class_words=1.5)

    named = captioning.load(tmp_path / "named.h5")
    assert named.model.config["class_words"] == 1.5
    mine = {p.name: p.get_value() for p in named.model.parameters}
    for p in model.parameters:
        assert_allclose(mine[p.name], p.get_value(), err_msg=str(p.name))
    assert_allclose(mine["/classes/W"], network.logits.W.get_value())
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert named(image, beam=2, min_length=1, max_length=4)[0].words

    # What the file has is exported further, and taken away again.
    export(tmp_path / "named.h5", tmp_path / "again.h5")
    assert captioning.load(tmp_path / "again.h5").model.config["class_words"] == 1.5
    export(tmp_path / "named.h5", tmp_path / "off.h5", class_words=0.0)
    off = captioning.load(tmp_path / "off.h5").model
    assert not off.config["class_words"]
    assert not any(str(p.name).startswith("/classes") for p in off.parameters)


def test_other_kinds_know_none(tmp_path: Path) -> None:
    network = EfficientNetLite0(size=64, weights=None)
    model = ShowTell(network["pool"], VOCABULARY, embedding=6, hidden=5)
    save_model(model, tmp_path / "m.h5", encoder=encoder_header(network, "pool"))
    with pytest.raises(DlmieError, match="a show-tell knows no class_words"):
        export(tmp_path / "m.h5", tmp_path / "n.h5", class_words=1.0)


def test_everyday_words_are_words_of_captions() -> None:
    words = imagenet.everyday_words()
    assert len(words) == len(imagenet.classes()) == 1000
    assert words[EGYPTIAN_CAT] == ("cat", "cats", "kitten")
    assert set(words[imagenet.class_index("espresso")]) == {"cup", "mug", "coffee"}
    assert "dog" in words[imagenet.class_index("golden retriever")]
    assert "motorcycle" in words[imagenet.class_index("moped")]
    assert all(word.isalpha() and word.islower() for each in words for word in each)
