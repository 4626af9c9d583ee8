"""Each kind of captions file is recognised by its content, and each bad row is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.data.captions import formats
from dlmie.data.captions.dataset import Record, check
from dlmie.data.captions.formats.source import Source
from dlmie.data.images import save_image
from dlmie.errors import DataError


def write(path: Path, content: Any) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def by_name(records: list[Record]) -> dict[str, Record]:
    return {record.name: record for record in records}


class TestFlickr:
    TOKEN = 'a.jpg#0\tA dog .\na.jpg#1\tA "big" dog, running .\nb.jpg#0\tTwo cats .\nc.jpg#0\tX .\n'

    def lists(self, folder: Path) -> None:
        write(folder / "Any_8k.trainImages.txt", "b.jpg\n\n")
        write(folder / "Any_8k.devImages.txt", "a.jpg\r\n")

    def test_token_file_with_lists(self, tmp_path: Path) -> None:
        source = write(tmp_path / "captions", self.TOKEN)
        self.lists(tmp_path)
        listing = formats.read(source)
        records = by_name(listing.records)
        assert listing.source == {"files": [{"file": "captions", "format": "flickr"}]}
        assert records["a.jpg"].captions == ["A dog .", 'A "big" dog, running .']
        assert {name: record.split for name, record in records.items()} == {
            "a.jpg": "dev",
            "b.jpg": "train",
        }  # c.jpg is in no list and so no part of the data
        assert not listing.problems

    def test_without_lists_the_split_depends_on_the_name_only(self, tmp_path: Path) -> None:
        names = [f"{number}.jpg" for number in range(400)]
        lines = [f"{name}#0\ta dog\n" for name in names]
        first = formats.read(write(tmp_path / "x.token.txt", "".join(lines)))
        second = formats.read(write(tmp_path / "y.token.txt", "".join(reversed(lines))))
        splits = {record.name: record.split for record in first.records}
        assert splits == {record.name: record.split for record in second.records}
        counts = {split: list(splits.values()).count(split) for split in ("train", "dev", "test")}
        assert 290 < counts["train"] < 350
        assert min(counts.values()) > 20
        assert [splits[f"{number}.jpg"] for number in (0, 3, 13)] == ["train", "dev", "test"]

    def test_bad_rows(self, tmp_path: Path) -> None:
        text = (
            self.TOKEN.encode() + b"no tab here\na.jpg#0\tagain\n\xff.jpg#0\tlatin\nb.jpg#1\t\xe9\n"
        )
        self.lists(tmp_path)
        listing = formats.read(write(tmp_path / "x.token.txt", text))
        assert len(listing.problems) == 2
        assert "line 5" in listing.problems[0]
        assert "a.jpg#0 was given before" in listing.problems[1]
        problems = check(write(tmp_path / "x.token.txt", text), progress=False)
        assert any("b.jpg: caption 2 is not valid UTF-8" in line for line in problems)

    def test_names_without_captions_and_in_two_lists(self, tmp_path: Path) -> None:
        self.lists(tmp_path)
        write(tmp_path / "Any_8k.testImages.txt", "a.jpg\nz.jpg\n")
        listing = formats.read(write(tmp_path / "x.token.txt", self.TOKEN))
        assert by_name(listing.records)["a.jpg"].split == "dev"
        assert listing.problems == [
            "a.jpg: is in the lists of 'dev' and 'test'",
            "z.jpg: is in the list of 'test' but has no captions",
        ]

    def test_two_lists_for_one_split(self, tmp_path: Path) -> None:
        self.lists(tmp_path)
        write(tmp_path / "Other.trainImages.txt", "a.jpg\n")
        source = write(tmp_path / "x.token.txt", self.TOKEN)
        with pytest.raises(DataError, match="both list the train images"):
            formats.read(source)
        listing = formats.read(source, splits={"train": tmp_path / "Other.trainImages.txt"})
        assert [record.name for record in listing.records] == ["a.jpg"]

    def test_given_splits(self, tmp_path: Path) -> None:
        source = write(tmp_path / "x.token.txt", self.TOKEN)
        dev = write(tmp_path / "dev.txt", "b\n")  # names may lack the suffix
        listing = formats.read(source, splits={"train": ["a.jpg", "c.jpg"], "val": dev})
        assert {r.name: r.split for r in listing.records} == {
            "a.jpg": "train",
            "b.jpg": "dev",
            "c.jpg": "train",
        }
        with pytest.raises(DataError, match=r"none\.txt"):
            formats.read(source, splits={"train": tmp_path / "none.txt"})


class TestCoco:
    DOCUMENT: dict[str, Any] = {  # noqa: RUF012
        "info": {"year": 2014},
        "images": [
            {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "coco_url": "http://x"},
            {"id": 25, "file_name": "COCO_val2014_000000000025.jpg"},
        ],
        "annotations": [
            {"id": 1, "image_id": 25, "caption": "A giraffe\n"},
            {"id": 2, "image_id": 9, "caption": "Food."},
            {"id": 3, "image_id": 25, "caption": "Two giraffes"},
        ],
    }

    @pytest.mark.parametrize(
        ("name", "split"),
        [("captions_train2014.json", "train"), ("captions_val2017.json", "dev"), ("trains", None)],
    )
    def test_captions_json(self, tmp_path: Path, name: str, split: str | None) -> None:
        listing = formats.read(write(tmp_path / name, self.DOCUMENT))
        records = by_name(listing.records)
        giraffes = records["COCO_val2014_000000000025.jpg"]
        assert giraffes.captions == ["A giraffe\n", "Two giraffes"]
        assert giraffes.image_id == 25
        if split:
            assert {record.split for record in listing.records} == {split}
        assert listing.source["files"][0]["format"] == "coco"

    def test_train_and_val_together(self, tmp_path: Path) -> None:
        train = {
            "images": [{"id": 1, "file_name": "t.jpg"}],
            "annotations": [{"image_id": 1, "caption": "a"}],
        }
        listing = formats.read(
            [
                write(tmp_path / "captions_train2014.json", train),
                write(tmp_path / "captions_val2014.json", self.DOCUMENT),
            ]
        )
        assert [record.split for record in listing.records] == ["train", "dev", "dev"]

    def test_images_in_the_folders_of_the_archives(self, tmp_path: Path) -> None:
        file = tmp_path / "images" / "val2014" / "COCO_val2014_000000000009.jpg"
        save_image(file, np.zeros((2, 2, 3), np.uint8))
        source = write(tmp_path / "captions_val2014.json", self.DOCUMENT)
        for images in (tmp_path / "images", tmp_path, None):
            records = by_name(formats.read(source, images=images).records)
            assert records[file.name].image == file

    def test_bad_rows(self, tmp_path: Path) -> None:
        document = {
            "images": [*self.DOCUMENT["images"], {"id": 9, "file_name": "x"}, {"id": 1}, "x"],
            "annotations": [
                *self.DOCUMENT["annotations"],
                {"image_id": 77, "caption": "a"},
                {"image_id": 9},
                None,
            ],
        }
        listing = formats.read(write(tmp_path / "captions_val.json", document))
        assert len(listing.problems) == 6
        assert len(listing.records) == 2
        assert any("unknown image 77" in line for line in listing.problems)

    def test_annotations_without_captions_are_no_captions_file(self, tmp_path: Path) -> None:
        document = {"images": [{"id": 1}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
        with pytest.raises(DataError, match="none of the known formats"):
            formats.read(write(tmp_path / "instances_val2014.json", document))


class TestKarpathy:
    def test_dataset_json(self, tmp_path: Path) -> None:
        def image(name: str, split: str) -> dict[str, Any]:
            sentence = {"tokens": ["a", "dog"], "raw": "A dog.", "imgid": 0, "sentid": 0}
            return {
                "filepath": "val2014",
                "filename": name,
                "split": split,
                "cocoid": 7,
                "sentids": [0],
                "sentences": [sentence, {**sentence, "raw": "Dog!"}],
            }

        splits = ("train", "restval", "val", "test")
        document = {
            "dataset": "coco",
            "images": [*(image(f"{split}.jpg", split) for split in splits), {"filename": "x"}, 3],
        }
        listing = formats.read(write(tmp_path / "dataset.json", document))
        assert [record.split for record in listing.records] == ["train", "train", "dev", "test"]
        assert listing.records[0].captions == ["A dog.", "Dog!"]
        assert listing.records[0].image_id == 7
        assert listing.records[0].image == tmp_path / "val2014" / "train.jpg"
        assert len(listing.problems) == 2


class TestMapping:
    def test_image_to_captions(self, tmp_path: Path) -> None:
        text = '{"a.jpg": ["A dog", "Dog"], "b.jpg": "A cat", "c.jpg": 4, "a.jpg": ["Late"]}'
        listing = formats.read(write(tmp_path / "x.json", text))
        assert {r.name: r.captions for r in listing.records} == {
            "a.jpg": ["Late"],
            "b.jpg": ["A cat"],
        }
        assert len(listing.problems) == 2

    def test_captions_of_other_types_are_reported(self, tmp_path: Path) -> None:
        source = write(tmp_path / "x.json", {"a.jpg": ["A dog", None, 3, ""], "b.jpg": ["x"]})
        problems = check(source, splits={"train": ["a.jpg", "b.jpg"]}, progress=False)
        assert sum("a.jpg: caption" in line for line in problems) == 3


class TestTable:
    @pytest.mark.parametrize(
        "text",
        [
            'image,caption\na.jpg,"A dog, running"\na.jpg,Dog\nb.jpg,"say ""hi"""\n',
            "image_name| comment_number| comment\na.jpg| 0| A dog, running\na.jpg| 1| Dog\n"
            'b.jpg| 0|"say ""hi"""\n',
            "\ufeffFile Name;Caption 1;Caption 2\r\na.jpg;A dog, running;Dog\r\n"
            'b.jpg;"say ""hi""";\r\n',
            'a.jpg\tA dog, running\na.jpg\tDog\nb.jpg\t"say ""hi"""\n',
        ],
    )
    def test_dialects(self, tmp_path: Path, text: str) -> None:
        listing = formats.read(write(tmp_path / "x.csv", text))
        assert {r.name: r.captions for r in listing.records} == {
            "a.jpg": ["A dog, running", "Dog"],
            "b.jpg": ['say "hi"'],
        }
        assert not listing.problems

    def test_split_column(self, tmp_path: Path) -> None:
        text = "file,caption,split\na.jpg,x,train\nb.jpg,x,val\nb.jpg,y,test\n"
        listing = formats.read(write(tmp_path / "x.csv", text))
        assert [record.split for record in listing.records] == ["train", "dev"]
        assert "line 4" in listing.problems[0]

    def test_bad_rows(self, tmp_path: Path) -> None:
        text = "image,caption\na.jpg,good\nb.jpg,two, unquoted\n,none\n\nc.jpg\n"
        listing = formats.read(write(tmp_path / "x.csv", text))
        assert [record.name for record in listing.records] == ["a.jpg"]
        assert [line.split(":")[0] for line in listing.problems] == [
            "x.csv, line 3",
            "x.csv, line 4",
            "x.csv, line 6",
        ]

    def test_an_open_quotation_mark_is_reported(self, tmp_path: Path) -> None:
        rows = "".join(f"{number}.jpg,fine\n" for number in range(30))
        text = f'image,caption\nb.jpg,fine\na.jpg,"open\n{rows}'
        listing = formats.read(write(tmp_path / "x.csv", text))
        assert listing.problems == ["x.csv, line 3: a quotation mark is not closed"]


class TestRecognition:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "empty"),
            (" \n", "empty"),
            ("just some prose\nwithout anything", "none of the known formats"),
            ("{}", "none of the known formats"),
            ("[1, 2]", "none of the known formats"),
            ('{"images": [', "line 1, column 13"),
            ("[" * 100_000, "nested"),
            (b"{\xff", "UTF-8"),
            (b"\x89HDF\r\n\x1a\n\0\0", "none of the known formats"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: Any, message: str) -> None:
        source = write(tmp_path / "x.json", content)
        with pytest.raises(DataError, match=message) as caught:
            formats.read(source)
        assert str(source) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            formats.read(tmp_path / "x")
        with pytest.raises(DataError, match="folder"):
            formats.read(tmp_path)
        with pytest.raises(DataError, match="no captions file"):
            formats.read([])
        source = write(tmp_path / "x.csv", "a.jpg,x\n")
        with pytest.raises(DataError, match="no such folder"):
            formats.read(source, images=tmp_path / "none")

    def test_a_named_format(self, tmp_path: Path) -> None:
        source = write(tmp_path / "x", "a.jpg,b#0\tx\n")
        assert formats.read(source, format="flickr").records[0].name == "a.jpg,b"
        with pytest.raises(DataError, match="flickr, coco, karpathy, mapping, csv"):
            formats.read(source, format="voc")
        with pytest.raises(DataError, match="no row can be used"):
            formats.read(write(tmp_path / "y", "prose\n"), format="csv")

    def test_the_parts_that_are_not_needed_are_not_kept(self, tmp_path: Path) -> None:
        source = Source(write(tmp_path / "x", {"images": [{"tokens": ["x"] * 9, "raw": "x"}]}))
        assert source.document == {"images": [{"raw": "x"}]}

    def test_images_are_found_below_the_given_folder(self, tmp_path: Path) -> None:
        file = save_image(tmp_path / "deep" / "er" / "a.jpg", np.zeros((2, 2, 3), np.uint8))
        source = write(tmp_path / "x.csv", "a.jpg,x\n")
        assert formats.read(source, images=tmp_path).records[0].image == file
        assert formats.read(source).records[0].image == tmp_path / "a.jpg"  # only where expected

    def test_real_flickr8k(self, shared: Path) -> None:
        listing = formats.read(
            shared / "data" / "flickr8k" / "Flickr8k.token.txt",
            images=shared / "data" / "flickr8k" / "images",
        )
        splits = [record.split for record in listing.records]
        assert (splits.count("train"), splits.count("dev"), len(splits)) == (6000, 1000, 7000)
        assert not listing.problems
