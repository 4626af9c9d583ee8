"""What a prepared file holds, whatever it was made from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from dlmie.data.captions.checking import check
from dlmie.data.captions.dataset import Captions, Record, write_captions
from dlmie.data.captions.vocabulary import END, SPECIAL, START, UNK
from dlmie.data.images import load_image, resize_image, save_image
from dlmie.errors import DataError
from dlmie.files.checksums import hash_json
from dlmie.files.hdf5 import create_text, read_text


def picture(seed: int, height: int = 12, width: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six photographs, one of them truncated, one missing, and their captions."""
    captions = {}
    for number in range(6):
        name = f"{number}.png"
        captions[name] = [f"A dog number {number} .", "Two DOGS' ball", "été"]
        if number != 5:
            save_image(tmp_path / "images" / name, picture(number))
    broken = tmp_path / "images" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    (tmp_path / "captions.json").write_text(json.dumps(captions), "utf-8")
    return tmp_path


SPLITS = {"train": ["0.png", "1.png", "3.png"], "dev": ["2.png"], "test": ["4.png", "5.png"]}


def prepared(folder: Path, name: str = "data.h5", **options: object) -> Captions:
    options = {"splits": SPLITS, "size": 8, "min_count": 2, "progress": False, **options}
    return Captions.prepare(folder / "captions.json", to=folder / name, **options)  # type: ignore[arg-type]


class TestContent:
    def test_everything_is_there(self, folder: Path) -> None:
        data = prepared(folder)
        assert data.splits == ["train", "dev", "test"]
        assert data.names == ["0.png", "1.png", "2.png", "4.png"]
        assert [len(split) for split in data] == [2, 1, 1]
        assert "train" in data
        assert "night" not in data
        train = data["train"]
        assert train.references[1] == ["A dog number 1 .", "Two DOGS' ball", "été"]
        assert train.objects is None
        assert train.image_ids == [0, 1]
        np.testing.assert_array_equal(train.token_image, [0, 0, 0, 1, 1, 1])
        images = train.load_images([1, 0, 1])
        assert images.dtype == np.uint8
        for image, number in zip(images, (1, 0, 1), strict=True):
            np.testing.assert_array_equal(image, resize_image(picture(number), 8))
        assert train.load_images([]).shape == (0, 8, 8, 3)
        assert "2 images, 6 captions" in repr(train)

    def test_vocabulary_comes_from_the_usable_training_captions_only(self, folder: Path) -> None:
        data = prepared(folder)
        words = ("a", "ball", "dog", "dogs", "number", "two", "été")  # "0" and "1" are rare
        assert data.vocabulary.words == (*SPECIAL, *words)
        everything = prepared(folder, "all.h5", min_count=1)
        assert {"0", "1"} < set(everything.vocabulary.words)
        assert not {"2", "3", "4"} & set(everything.vocabulary.words)

    def test_tokens(self, folder: Path) -> None:
        data = prepared(folder)
        tokens = data["dev"].tokens
        assert all(caption.dtype == np.int32 for caption in tokens)
        number = data.vocabulary.index
        expected = [START, number("a"), number("dog"), number("number"), UNK, END]
        np.testing.assert_array_equal(tokens[0], expected)
        assert data.vocabulary.text(tokens[1]) == "two dogs ball"

    def test_what_was_left_out_is_listed(self, folder: Path) -> None:
        header = prepared(folder).header
        assert [(entry["name"], entry["split"]) for entry in header["skipped"]] == [
            ("3.png", "train"),
            ("5.png", "test"),
        ]
        assert "truncated" in header["skipped"][0]["reason"]
        assert "no such file" in header["skipped"][1]["reason"]

    def test_header(self, folder: Path) -> None:
        data = prepared(folder, max_size=6)
        header = data.header
        assert (header["format"], header["version"]) == ("dlmie.captions", 2)
        assert (header["size"], header["min_count"], header["max_size"]) == (8, 2, 6)
        assert header["source"]["files"] == [
            {
                "file": "captions.json",
                "format": "mapping",
                "splits": {"train": 3, "dev": 1, "test": 2},
                "by": "lists of images",
            }
        ]
        assert header["vocabulary"] == {
            "size": 6,
            "hash": data.vocabulary.hash,
            "left_out": {"types": 7, "of_types": 9, "tokens": 12, "of_tokens": 16},
        }
        assert header["splits"]["train"] == {
            "images": 2,
            "captions": 6,
            "hash": data["train"].hash,
        }

    def test_one_chunk_an_image(self, folder: Path) -> None:
        prepared(folder).close()
        with h5py.File(folder / "data.h5") as file:
            assert file["splits/train/images"].chunks == (1, 8, 8, 3)

    def test_progress_is_announced_with_size_and_time(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        prepared(folder, progress=True)
        said = capsys.readouterr()
        assert not said.out
        assert "data.h5: 5 images; " in said.err
        assert "about 0 s" in said.err


class TestHash:
    def test_it_depends_on_content_only(self, folder: Path) -> None:
        first = prepared(folder)
        assert prepared(folder, "again.h5").hash == first.hash
        assert prepared(folder, "paths.h5", store="paths").hash == first.hash
        assert prepared(folder, "workers.h5", workers=3).hash == first.hash

    def test_it_tells_data_apart(self, folder: Path) -> None:
        first = prepared(folder)
        assert prepared(folder, "size.h5", size=9).hash != first.hash
        other = prepared(folder, "count.h5", min_count=1)
        assert other.hash != first.hash
        assert other["train"].hash == first["train"].hash  # only the vocabulary differs
        save_image(folder / "images" / "2.png", picture(99))
        changed = prepared(folder, "pixel.h5")
        assert changed["train"].hash == first["train"].hash
        assert changed["dev"].hash != first["dev"].hash
        assert changed.hash != first.hash


class TestPaths:
    def test_images_are_read_from_their_files(self, folder: Path) -> None:
        pixels, paths = prepared(folder), prepared(folder, "paths.h5", store="paths")
        for split in ("train", "dev", "test"):
            everything = range(len(pixels[split]))
            np.testing.assert_array_equal(
                paths[split].load_images(everything), pixels[split].load_images(everything)
            )
        assert paths["dev"].paths == [folder / "images" / "2.png"]
        with pytest.raises(DataError, match="holds pixels"):
            _ = pixels["dev"].paths

    def test_images_may_move(self, folder: Path) -> None:
        data = prepared(folder, store="paths")
        before = data["dev"].load_images([0])
        (folder / "images").rename(folder / "moved")
        with pytest.raises(DataError, match=r"2\.png: no such file"):
            Captions(data.path)["dev"].load_images([0])
        moved = Captions(data.path, images=folder / "moved")
        np.testing.assert_array_equal(moved["dev"].load_images([0]), before)


class TestRecords:
    def records(self, count: int = 3) -> list[Record]:
        boxes = [{"name": "circle", "words": ["circle"], "box": [0.0, 0.1, 0.5, 1.0]}]
        return [
            Record(
                str(number),
                lambda number=number: picture(number, 8, 8),
                [f"a circle {number}"],
                "train" if number else "dev",
                boxes if number else None,
                image_id=number + 40,
            )
            for number in range(count)
        ]

    def write(self, to: Path, records: Sequence[Record], **options: object) -> Captions:
        options = {"size": 8, "min_count": 1, "progress": False, **options}
        return Captions(write_captions(records, to, **options))  # type: ignore[arg-type]

    def test_rendered_images_with_objects(self, tmp_path: Path) -> None:
        data = self.write(tmp_path / "x.h5", self.records(), source={"seed": 1})
        np.testing.assert_array_equal(data["train"].load_images([1])[0], picture(2, 8, 8))
        assert data["train"].objects is not None
        assert data["train"].objects[0][0]["box"] == [0.0, 0.1, 0.5, 1.0]
        assert data["dev"].objects is None
        assert data["train"].image_ids == [41, 42]
        assert data.header["source"] == {"seed": 1}

    def test_refusals(self, tmp_path: Path) -> None:
        records = self.records()
        to = tmp_path / "x.h5"
        with pytest.raises(DataError, match="two records are called '0'"):
            self.write(to, [*records, records[0]])
        with pytest.raises(DataError, match="no path to store"):
            self.write(to, records, store="paths")
        with pytest.raises(DataError, match="no training image"):
            self.write(to, records[:1])
        with pytest.raises(DataError, match="store is"):
            self.write(to, records, store="jpeg")
        with pytest.raises(DataError, match="size"):
            self.write(to, records, size=0)
        assert list(tmp_path.iterdir()) == []

    def test_unusable_captions_are_left_out_and_listed(self, tmp_path: Path) -> None:
        texts = ["fine", "  ", "...", "nul\0", "half \ud800", 7, " fine too \n"]
        records = [
            Record("a", lambda: picture(0), texts, "train"),  # type: ignore[arg-type]
            Record("b", lambda: picture(0), ["!"], "train"),
            Record("c", lambda: picture(0), ["good"], "../bad"),
        ]
        data = self.write(tmp_path / "x.h5", records, problems=["row 1"])
        assert data["train"].references == [["fine", "fine too"]]
        assert data.names == ["a"]
        assert len(data.header["problems"]) == 1 + 5 + 2 + 1
        with pytest.raises(DataError, match=r"row 1 \(--check lists all"):
            self.write(tmp_path / "y.h5", records, problems=["row 1"], strict=True)

    def test_whitespace_tokenizer(self, tmp_path: Path) -> None:
        records = [Record("a", lambda: picture(0), ["A dog ."], "train")]
        data = self.write(tmp_path / "x.h5", records, tokenizer="whitespace")
        assert data.vocabulary.words[4:] == (".", "A", "dog")
        assert data.vocabulary.tokenize("A dog .") == ["A", "dog", "."]

    def test_labels_of_any_kind(self, tmp_path: Path) -> None:
        labels = [10**20, "ab-0", None, 7]
        records = [
            Record(f"{n}.jpg", lambda: picture(0), ["a dog"], "train", image_id=label)
            for n, label in enumerate(labels)
        ]
        data = self.write(tmp_path / "x.h5", records)
        assert data["train"].image_ids == [10**20, "ab-0", "2.jpg", 7]
        numbers = self.write(tmp_path / "y.h5", records[3:])
        assert numbers["train"].image_ids == [7]
        assert "image_labels" not in h5py.File(tmp_path / "y.h5")["splits/train"]
        assert self.write(tmp_path / "z.h5", records[2:3])["train"].image_ids == [0]

    def test_rare_words_and_odd_text_are_told(self, tmp_path: Path) -> None:
        texts = ["a dog", "a dog", "a cat", "狗", "猫"]
        records = [
            Record(str(n), lambda: picture(0), [text], "train") for n, text in enumerate(texts)
        ]
        header = self.write(tmp_path / "x.h5", records, min_count=2, notes=["seen"]).header
        assert header["vocabulary"]["left_out"] == {
            "types": 3,
            "of_types": 5,
            "tokens": 3,
            "of_tokens": 8,
        }
        assert header["notes"] == ["seen"]
        chinese = self.write(tmp_path / "y.h5", records[3:], min_count=1)
        assert "2 of 2 captions are one word" in chinese.header["notes"][0]
        characters = self.write(tmp_path / "z.h5", records[3:], min_count=1, tokenizer="characters")
        assert characters.header["notes"] == []
        assert characters.vocabulary.text([4, 5]) == "".join(characters.vocabulary.words[4:])


class TestContracts:
    def write(self, to: Path, text: str) -> Captions:
        records = [Record("a", lambda: picture(0), [text], "train")]
        return Captions(write_captions(records, to, size=8, min_count=1, progress=False))

    def test_a_file_of_dlmie_0_1_0_splits_as_it_did(self, tmp_path: Path) -> None:
        new = self.write(tmp_path / "x.h5", "A dog’s ball")
        assert new.vocabulary.tokenize("dog’s") == ["dog's"]
        header = {k: v for k, v in new.header.items() if k != "tokenizer_contract"}
        new.close()
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            del file["header"]
            file.create_dataset("header", data=json.dumps(header), dtype=h5py.string_dtype())
        old = Captions(tmp_path / "x.h5")
        assert old.vocabulary.tokenize("dog’s") == ["dog", "s"]

    @pytest.mark.parametrize(("text", "kept"), [("A dog's ball", True), ("A dog’s ball", False)])
    def test_only_what_is_split_otherwise_has_another_hash(
        self, tmp_path: Path, text: str, kept: bool
    ) -> None:
        captions = self.write(tmp_path / "x.h5", text)
        splits = {"train": captions["train"].hash}
        first = hash_json([8, "words", captions.vocabulary.hash, splits])  # as dlmie 0.1.0 made it
        assert (captions.hash == first) is kept


class TestRunningAgain:
    def test_a_complete_file_is_left_alone(self, folder: Path) -> None:
        prepared(folder).close()
        before = (folder / "data.h5").stat()
        prepared(folder).close()
        assert (folder / "data.h5").stat().st_mtime_ns == before.st_mtime_ns

    def test_other_content_needs_permission(self, folder: Path) -> None:
        prepared(folder).close()
        with pytest.raises(DataError, match="holds something else"):
            prepared(folder, min_count=1)
        assert len(prepared(folder, min_count=1, overwrite=True).vocabulary) > 11
        (folder / "data.h5").write_text("something else")
        with pytest.raises(DataError, match="holds something else"):
            prepared(folder)

    def test_strict(self, folder: Path) -> None:
        with pytest.raises(DataError, match=r"5\.png.*no such file"):
            prepared(folder, strict=True)
        save_image(folder / "images" / "5.png", picture(5))
        with pytest.raises(DataError, match=r"3\.png: is damaged or truncated"):
            prepared(folder, strict=True)
        assert not (folder / "data.h5").exists()
        save_image(folder / "images" / "3.png", picture(3))
        data = prepared(folder, strict=True)
        assert len(data.names) == 6
        assert not data.header["skipped"]

    def test_nothing_usable(self, folder: Path) -> None:
        with pytest.raises(DataError, match=r"no training image could be used.*3\.png"):
            prepared(folder, splits={"train": ["3.png"]})
        with pytest.raises(DataError, match=r"no training image with captions.*5\.png"):
            prepared(folder, splits={"train": ["5.png"], "dev": ["1.png"]})


class TestOpening:
    def test_bad_files(self, folder: Path, tmp_path: Path) -> None:
        prepared(folder).close()
        whole = (folder / "data.h5").read_bytes()
        cases = {
            "missing.h5": (None, "no such file"),
            "text.h5": (b"hello", "not a file that dlmie prepare writes"),
            "empty.h5": (b"", "not a file that dlmie prepare writes"),
            "cut.h5": (whole[: len(whole) // 2], "truncated"),
        }
        for name, (content, message) in cases.items():
            path = tmp_path / name
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(DataError, match=message) as caught:
                Captions(path)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)

    def test_other_hdf5_files(self, folder: Path, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["x"] = 1
        with pytest.raises(DataError, match="not a file that dlmie prepare writes"):
            Captions(tmp_path / "other.h5")
        prepared(folder).close()
        for key, value, message in (
            ("version", 3, "format version 3, this dlmie reads up to 2; upgrade"),
            ("format", "dlmie.features", "is a dlmie.features file"),
        ):
            with h5py.File(folder / "data.h5", "r+") as file:
                header = json.loads(read_text(file["header"]))
                del file["header"]
                create_text(file, "header", json.dumps({**header, key: value}))
            with pytest.raises(DataError, match=message):
                Captions(folder / "data.h5")

    def test_an_interrupted_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x.h5.part").write_bytes(b"")
        with pytest.raises(DataError, match="run it again"):
            Captions(tmp_path / "x.h5")

    def test_unknown_split_and_index(self, folder: Path) -> None:
        data = prepared(folder)
        with pytest.raises(DataError, match="no split 'night'; it has train, dev, test"):
            data["night"]
        for index in (2, -1):
            with pytest.raises(DataError, match=r"images 0\.\.1"):
                data["train"].load_images([index])

    def test_context(self, folder: Path) -> None:
        with prepared(folder) as data:
            assert len(data["train"]) == 2
        assert "Captions(data.h5: train 2" in repr(data)


class TestNames:
    @pytest.mark.parametrize("name", ["dev", "val", "Validation", " VALID "])
    def test_a_split_by_any_usual_name(self, folder: Path, name: str) -> None:
        data = prepared(folder)
        assert name in data
        assert data[name] is data["dev"]


class TestCheck:
    def test_every_problem_and_no_change(self, folder: Path) -> None:
        before = sorted(folder.rglob("*"))
        problems = check(folder / "captions.json", splits=SPLITS, progress=False)
        assert len(problems) == 2
        assert "3.png" in problems[0]
        assert "5.png" in problems[1]
        assert sorted(folder.rglob("*")) == before

    def test_no_training_images(self, folder: Path) -> None:
        problems = check(folder / "captions.json", splits={"dev": ["0.png"]}, progress=False)
        assert problems == ["no training image with captions"]


def test_real_photographs(shared: Path, tmp_path: Path) -> None:
    flickr = shared / "data" / "flickr8k"
    names = (flickr / "Flickr_8k.trainImages.txt").read_text().split()[:20]
    data = Captions.prepare(
        flickr / "Flickr8k.token.txt",
        images=flickr / "images",
        to=tmp_path / "x.h5",
        splits={"train": names[:15], "dev": names[15:]},
        min_count=1,
        progress=False,
    )
    assert sorted(data.names) == sorted(names)
    train = data["train"]
    assert [len(captions) for captions in train.references] == [5] * 15
    first = load_image(flickr / "images" / train.names[0])
    np.testing.assert_array_equal(train.load_images([0])[0], first)  # 224 × 224 already


def test_public_names_load_when_first_needed() -> None:
    import dlmie.data

    for name in dlmie.data.__all__:
        assert getattr(dlmie.data, name).__name__ == name
    assert "Captions" in dir(dlmie.data)
    with pytest.raises(AttributeError, match="nothing"):
        dlmie.data.nothing  # noqa: B018
    code = """
import sys, dlmie.data.images, dlmie.data.captions.vocabulary
heavy = {"h5py", "skimage", "scipy", "PIL", "tqdm"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
