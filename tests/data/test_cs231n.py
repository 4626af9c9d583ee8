"""The cs231n file layout: written by us and read by anyone, written by anyone and read by us."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dlmie.data.captions.cs231n import CocoCaptioning
from dlmie.data.captions.dataset import Captions, Record, write_captions
from dlmie.data.captions.vocabulary import SPECIAL, UNK
from dlmie.errors import DataError

WORDS = ["<NULL>", "<START>", "<END>", "<UNK>", "a", "dog", "runs"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files as the assignment ships them, with the plain libraries."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "coco2014_captions.h5", "w") as file:
        for split, count in (("train", 6), ("val", 3)):
            captions = np.zeros((count, 17), np.int32)
            captions[:, :5] = [1, 4, 5, 6, 2]
            file[f"{split}_captions"] = captions
            file[f"{split}_image_idxs"] = (np.arange(count) // 3).astype(np.int32)
    for split in ("train", "val"):
        for suffix, size in (("", 4096), ("_pca", 512)):
            with h5py.File(tmp_path / f"{split}2014_vgg16_fc7{suffix}.h5", "w") as file:
                file["features"] = rng.standard_normal((2, size)).astype(np.float32)
        (tmp_path / f"{split}2014_urls.txt").write_text("http://a/0.jpg\nhttp://a/1.jpg\n")
    numbers = {word: number for number, word in enumerate(WORDS)}
    (tmp_path / "coco2014_vocab.json").write_text(
        json.dumps({"idx_to_word": WORDS, "word_to_idx": numbers})
    )
    return tmp_path


class TestRead:
    def test_everything(self, folder: Path) -> None:
        data = CocoCaptioning.read(folder)
        assert data.captions["train"].shape == (6, 17)
        assert data.captions["train"].dtype == np.int32
        np.testing.assert_array_equal(data.image_idxs["train"], [0, 0, 0, 1, 1, 1])
        assert data.features["val"].shape == (2, 512)
        assert CocoCaptioning.read(folder, pca=False).features["val"].shape == (2, 4096)
        assert data.urls["train"][1] == "http://a/1.jpg"
        assert data.word_to_idx["dog"] == 5
        assert data.vocabulary.words == (*SPECIAL, "a", "dog", "runs")

    def test_max_train_draws_with_replacement(self, folder: Path) -> None:
        data = CocoCaptioning.read(folder, max_train=50, seed=3)
        assert data.captions["train"].shape == (50, 17)
        assert len(data.features["train"]) == 2
        again = CocoCaptioning.read(folder, max_train=50, seed=3)
        np.testing.assert_array_equal(data.image_idxs["train"], again.image_idxs["train"])
        assert len(data.captions["val"]) == 3

    def test_decode(self, folder: Path) -> None:
        data = CocoCaptioning.read(folder)
        assert data.decode(np.array([1, 0, 4, 3, 2, 5, 0])) == "<START> a <UNK> <END>"
        assert data.decode(np.array([[4, 5], [0, 0]])) == ["a dog", ""]

    def test_minibatch(self, folder: Path) -> None:
        data = CocoCaptioning.read(folder)
        data.captions["train"][:, 5] = data.image_idxs["train"]
        captions, features, urls = data.minibatch("train", 40, np.random.default_rng(0))
        assert captions.shape == (40, 17)
        rows = captions[:, 5]
        assert set(rows.tolist()) == {0, 1}
        np.testing.assert_array_equal(features, data.features["train"][rows])
        assert urls == [f"http://a/{row}.jpg" for row in rows]
        data.urls.clear()
        assert data.minibatch("val", 2, np.random.default_rng(0))[2] == []

    def test_missing_and_damaged_files(self, folder: Path) -> None:
        vocabulary = folder / "coco2014_vocab.json"
        vocabulary.write_text('{"idx_to_word": ["a"]}')
        with pytest.raises(DataError, match="must begin with <NULL>"):
            CocoCaptioning.read(folder)
        vocabulary.write_text("[]")
        with pytest.raises(DataError, match="idx_to_word"):
            CocoCaptioning.read(folder)
        vocabulary.unlink()
        with pytest.raises(DataError, match=r"vocab\.json: no such file"):
            CocoCaptioning.read(folder)
        features = folder / "val2014_vgg16_fc7_pca.h5"
        features.write_bytes(b"x")
        with pytest.raises(DataError, match="not a readable HDF5 file"):
            CocoCaptioning.read(folder)
        with h5py.File(features, "w") as file:
            file["x"] = 1
        with pytest.raises(DataError, match="no data set 'features'"):
            CocoCaptioning.read(folder)

    def test_files_that_do_not_fit_together(self) -> None:
        captions, features = {"train": np.zeros((2, 5), np.int32)}, {"train": np.zeros((1, 3))}
        with pytest.raises(DataError, match="from 0 to 1, but there are features of 1 images"):
            CocoCaptioning(captions, {"train": np.array([0, 1])}, features, WORDS)
        with pytest.raises(DataError, match="do not match"):
            CocoCaptioning(captions, {"train": np.array([0])}, features, WORDS)
        with pytest.raises(DataError, match="without image_idxs"):
            CocoCaptioning(captions, {}, features, WORDS)
        with pytest.raises(DataError, match="word number 9 is outside the vocabulary of 7 words"):
            CocoCaptioning(
                {"train": np.full((2, 5), 9, np.int32)},
                {"train": np.array([0, 0])},
                features,
                WORDS,
            )


def test_written_files_are_read_again(folder: Path, tmp_path: Path) -> None:
    data = CocoCaptioning.read(folder, pca=False)
    to = data.write(tmp_path / "copy", pca=False)
    again = CocoCaptioning.read(to, pca=False)
    for split in ("train", "val"):
        np.testing.assert_array_equal(again.captions[split], data.captions[split])
        np.testing.assert_array_equal(again.image_idxs[split], data.image_idxs[split])
        np.testing.assert_array_equal(again.features[split], data.features[split])
    assert (again.idx_to_word, again.urls) == (data.idx_to_word, data.urls)
    assert not list(to.glob("*.part"))
    with h5py.File(to / "coco2014_captions.h5") as file:  # as the assignments' loaders read it
        assert file["train_image_idxs"].dtype == np.int32
    vocabulary = json.loads((to / "coco2014_vocab.json").read_text())
    assert vocabulary["word_to_idx"]["<UNK>"] == 3


def test_from_a_prepared_data_set(tmp_path: Path) -> None:
    long = " ".join(["dog"] * 30)
    records = [
        Record("a", lambda: np.zeros((2, 2, 3), np.uint8), ["a dog", long], "train"),
        Record("b", lambda: np.zeros((2, 2, 3), np.uint8), ["a cat"], "dev"),
    ]
    data = Captions(write_captions(records, tmp_path / "x.h5", size=2, min_count=1, progress=False))
    features = {"train": np.ones((1, 4)), "dev": np.zeros((1, 4))}
    coco = CocoCaptioning.from_captions(data, features, length=6)
    assert coco.idx_to_word == ["<NULL>", "<START>", "<END>", "<UNK>", "dog", "a"]
    np.testing.assert_array_equal(coco.captions["train"], [[1, 5, 4, 2, 0, 0], [1, 4, 4, 4, 4, 2]])
    np.testing.assert_array_equal(coco.captions["val"], [[1, 5, UNK, 2, 0, 0]])
    assert coco.vocabulary == data.vocabulary
    assert CocoCaptioning.read(coco.write(tmp_path / "c")).decode(coco.captions["val"]) == [
        "<START> a <UNK> <END>"
    ]
    with pytest.raises(DataError, match="needs features of the 1 images of 'dev'"):
        CocoCaptioning.from_captions(data, {"train": np.ones((1, 4))})
