"""One chain of resizing: a captioner sees photographs as it saw them when it learned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from captioning_cases import LAYER, make_step

import dlmie
from dlmie.captioning.features import encoder_header, features_of, learned_from
from dlmie.captioning.photographs import caption_images
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import Features
from dlmie.data.images import Preprocessing, load_image, preprocess, resize_image, save_image
from dlmie.errors import DataError
from dlmie.models import encoder

PREPARED, SEEN = 48, 32  # pixels: of the prepared file, and of the encoder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    sizes = [(60, 90), (90, 60), (48, 48), (200, 30)]
    return [
        save_image(folder / f"{n}.png", rng.integers(0, 256, (*size, 3), np.uint8))
        for n, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def data(photographs: list[Path]) -> Captions:
    names = [path.name for path in photographs]
    captions = photographs[0].with_name("captions.json")
    captions.write_text(json.dumps({name: ["a dog runs"] for name in names}))
    return Captions.prepare(
        captions, to=captions.with_name("data.h5"), size=PREPARED, min_count=1,
        splits={"train": names[:3], "dev": names[3:]}, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(data: Captions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = encoder("squeezenet", size=SEEN, weights=None)
    step = make_step(data, network[LAYER])
    folder = tmp_path_factory.mktemp("runs") / "run"
    dlmie.train(
        step, data, to=folder, epochs=1, batch=3, monitor="dev_loss", progress=False
    )  # fmt: skip
    return folder


def test_what_training_saw(run: Path, data: Captions, photographs: list[Path]) -> None:
    captioner = dlmie.load(run)
    seen = captioner.members[0].encoder.preprocessing
    assert seen.sizes == (PREPARED, SEEN)
    trained = preprocess(data["train"].load_images([0, 1, 2]), replace(seen, via=()))
    captioned = np.stack([preprocess(load_image(path), seen) for path in photographs[:3]])
    np.testing.assert_array_equal(captioned, trained)
    straight = np.stack(
        [preprocess(load_image(path), replace(seen, via=())) for path in photographs[:3]]
    )
    assert np.abs(straight - trained).max() > 1e-3  # else this test tells nothing
    # The features of the cache are those of the photographs, but for float16.
    cache = Features(json.loads((run / "config.json").read_text())["features"])
    (features,) = captioner.features(photographs[:3])
    np.testing.assert_allclose(features, cache.read("train", [0, 1, 2]), rtol=2e-3, atol=2e-3)


def test_every_way_to_a_caption(run: Path, data: Captions, photographs: list[Path]) -> None:
    captioner = dlmie.load(run)
    alone = [captioner(path)[0].log_probability for path in photographs]
    folder = [captions[0].log_probability for _, captions in caption_images(captioner, photographs)]
    assert folder == pytest.approx(alone, abs=1e-6)
    # An image of the prepared file was resized once already.
    (prepared,) = captioner.features(list(data["dev"].load_images([0])))
    (whole,) = captioner.features([photographs[3]])
    np.testing.assert_array_equal(prepared, whole)


def test_features_resuming_and_exporting_keep_it(run: Path, data: Captions, tmp_path: Path) -> None:
    cache = Features(json.loads((run / "config.json").read_text())["features"])
    dlmie.evaluate(dlmie.load(run), data["dev"], features=cache, beam=1)
    dlmie.resume(run, epochs=2, progress=False)
    assert dlmie.load(run).members[0].encoder.preprocessing.via == (PREPARED,)
    from dlmie.captioning import export

    exported = dlmie.load(export(run, tmp_path / "small.h5"))
    assert exported.members[0].encoder.preprocessing.via == (PREPARED,)


def test_features_of_images_of_another_size_are_refused(run: Path, data: Captions) -> None:
    member = dlmie.load(run).members[0]
    cache = Features(json.loads((run / "config.json").read_text())["features"])
    cache.check_matches(features_of(member.encoder_header, data.hash, PREPARED))
    with pytest.raises(DataError, match="via"):
        cache.check_matches(features_of(member.encoder_header, data.hash, 64))


def test_headers_that_say_nothing_mean_what_they_did() -> None:
    """Files of dlmie 0.1.0, and of data of the encoder's size, name no other size."""
    network = encoder("squeezenet", size=SEEN, weights=None)
    header = encoder_header(network, LAYER)
    assert "via" not in header["preprocessing"]
    assert learned_from(header, SEEN) == header
    assert Preprocessing.from_json(header["preprocessing"]).sizes == (SEEN,)


def test_chains() -> None:
    plain = Preprocessing(SEEN)
    assert plain.learned_from(PREPARED).learned_from(PREPARED).sizes == (PREPARED, SEEN)
    twice = plain.learned_from(PREPARED).learned_from(64)
    assert twice.sizes == (64, PREPARED, SEEN)
    assert twice.prepared(64).sizes == (PREPARED, SEEN)
    assert twice.prepared(PREPARED) == twice
    assert plain.prepared(SEEN) == plain
    assert Preprocessing.from_json(twice.to_json()) == twice
    image = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    step = resize_image(resize_image(resize_image(image, 64), PREPARED), SEEN)
    np.testing.assert_array_equal(preprocess(image, twice), preprocess(step, plain))
    batch = np.stack([resize_image(image, SEEN)] * 2)  # of the last size, yet not resized before
    seen = preprocess(batch, twice)
    np.testing.assert_array_equal(seen[0], preprocess(batch[0], twice))
    assert (seen[0] != preprocess(batch[0], plain)).any()
    with pytest.raises(DataError, match="at least 1 pixel"):
        Preprocessing(SEEN, via=(0,))
