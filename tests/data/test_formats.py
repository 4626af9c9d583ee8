"""Each kind of captions file is recognized by its content, and each bad row is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlmie.data.captions import formats
from dlmie.data.captions.checking import check
from dlmie.data.captions.dataset import Captions, Record
from dlmie.data.captions.formats.source import Reading, Source
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
        assert listing.source == {
            "files": [
                {
                    "file": "captions",
                    "format": "flickr",
                    "splits": {"train": 1, "dev": 1},
                    "by": "lists of images",
                }
            ]
        }
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
        assert counts == {"train": 320, "dev": 40, "test": 40}
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


class TestQuotes:
    """Whether quotation marks enclose cells is decided by the file."""

    def read(self, path: Path, text: str) -> tuple[dict[str, list[str]], list[str]]:
        listing = formats.read(write(path / "x.csv", text))
        return {r.name: r.captions for r in listing.records}, listing.problems

    def test_a_file_that_does_not_quote(self, tmp_path: Path) -> None:
        text = (
            "image_name| comment_number| comment\n"
            '0.jpg| 0| "Man in a red hat waves .\n'
            "0.jpg| 1| A man waves .\n"
            '1.jpg| 0| A sign says "stop" here .\n'
            '2.jpg| 0| "Go away" says the shirt .\n'
            "2.jpg| 1| A shirt .\n"
        )
        captions, problems = self.read(tmp_path, text)
        assert captions == {
            "0.jpg": ['"Man in a red hat waves .', "A man waves ."],
            "1.jpg": ['A sign says "stop" here .'],
            "2.jpg": ['"Go away" says the shirt .', "A shirt ."],
        }
        assert problems == []

    def test_tabs_and_one_open_mark(self, tmp_path: Path) -> None:
        rows = "".join(f"{number}.jpg\tfine\n" for number in range(5))
        captions, problems = self.read(tmp_path, f'file\tcaption\na.jpg\t"open\n{rows}')
        assert captions["a.jpg"] == ['"open']
        assert len(captions) == 6
        assert problems == []

    def test_cells_of_several_lines(self, tmp_path: Path) -> None:
        text = 'image,caption\na.jpg,"A dog\nruns, fast"\nb.jpg,"two ""big"" cats"\n'
        captions, problems = self.read(tmp_path, text)
        assert captions == {"a.jpg": ["A dog\nruns, fast"], "b.jpg": ['two "big" cats']}
        assert problems == []

    def test_an_open_mark_costs_its_own_row_alone(self, tmp_path: Path) -> None:
        text = (
            'image,caption\na.jpg,"one, two"\nb.jpg,"open, and\nc.jpg,"three, four"\nd.jpg,five\n'
            'e.jpg,"six, seven"\n'
        )
        captions, problems = self.read(tmp_path, text)
        assert captions == {
            "a.jpg": ["one, two"],
            "c.jpg": ["three, four"],
            "d.jpg": ["five"],
            "e.jpg": ["six, seven"],
        }
        assert problems == ["x.csv, line 3: a quotation mark is not closed"]

    def test_every_cell_in_marks(self, tmp_path: Path) -> None:
        captions, problems = self.read(tmp_path, '"image";"caption"\n"a.jpg";"A dog"\n')
        assert captions == {"a.jpg": ["A dog"]}
        assert problems == []

    def test_separators_of_lines_inside_cells(self, tmp_path: Path) -> None:
        captions, _ = self.read(tmp_path, 'image,caption\na.jpg,"A, \u2028dog"\nb.jpg,x\x0by\n')
        assert captions == {"a.jpg": ["A, \u2028dog"], "b.jpg": ["x\x0by"]}


class TestLayouts:
    def read(self, path: Path, text: str, **options: Any) -> dict[str, list[str]]:
        listing = formats.read(write(path, text), reading=Reading(**options))
        assert listing.problems == []
        return {r.name: r.captions for r in listing.records}

    @pytest.mark.parametrize(
        "text",
        [
            "sep=;\nimage;caption\na.jpg;A dog\nb.jpg;A cat\n",
            "ID,Image Path,Caption\n1,a.jpg,A dog\n2,b.jpg,A cat\n",
            "A dog\ta.jpg\nA cat\tb.jpg\n",
            "a.jpg,A dog,train\nb.jpg,A cat,train\n",
            ",image,text\n0,a.jpg,A dog\n1,b.jpg,A cat\n",
        ],
    )
    def test_columns_are_found(self, tmp_path: Path, text: str) -> None:
        assert self.read(tmp_path / "x.csv", text) == {"a.jpg": ["A dog"], "b.jpg": ["A cat"]}

    def test_several_captions(self, tmp_path: Path) -> None:
        wide = {"a.jpg": ["A dog", "Dog runs"], "b.jpg": ["A cat"]}
        for text in (
            "image,caption 1,caption 2\na.jpg,A dog,Dog runs\nb.jpg,A cat,\n",
            "image,caption,caption\na.jpg,A dog,Dog runs\nb.jpg,A cat,\n",
            "image,captions\na.jpg,\"['A dog', 'Dog runs']\"\nb.jpg,['A cat']\n",
            'image\tcaptions\na.jpg\t["A dog", "Dog runs"]\nb.jpg\t["A cat"]\n',
        ):
            assert self.read(tmp_path / "x.csv", text) == wide

    def test_images_that_only_have_ids(self, tmp_path: Path) -> None:
        listing = formats.read(write(tmp_path / "x.csv", "ID,Caption\n7,A dog\n08,A cat\n"))
        assert [(r.name, r.image_id) for r in listing.records] == [("7", "7"), ("08", "08")]

    def test_chosen_columns(self, tmp_path: Path) -> None:
        text = "bild;x;satz\na.jpg;1;A dog\nb.jpg;2;A cat\n"
        source = tmp_path / "x.csv"
        chosen = {"image_column": "bild", "caption_columns": ("Satz",)}
        expected = {"a.jpg": ["A dog"], "b.jpg": ["A cat"]}
        assert self.read(source, text, **chosen) == expected
        numbers = {"image_column": "3", "caption_columns": ("1",)}
        assert self.read(source, "A dog;x;a\nA cat;x;b\n", **numbers) == {
            "a": ["A dog"],
            "b": ["A cat"],
        }
        with pytest.raises(DataError, match=r"no column 'bilt'; it has bild, x, satz"):
            self.read(source, text, image_column="bilt", caption_columns=("satz",))

    def test_unknown_columns_are_listed(self, tmp_path: Path) -> None:
        for name, text in (
            ("x.csv", "bild,satz\na,A dog\n"),
            ("x.txt", "bild\tsatz\na\tA dog\n"),
            ("x.json", '[{"bild": "a", "satz": "A dog"}]'),
            ("x.jsonl", '{"bild": "a", "satz": "A dog"}\n'),
        ):
            with pytest.raises(DataError, match="It has bild, satz; choose with --image-column"):
                formats.read(write(tmp_path / name, text))

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings_and_line_ends(self, tmp_path: Path, encoding: str, end: str) -> None:
        text = "image\tcaption\n0.jpg\tUn café près de la mer\n1.jpg\tIt’s a dog\n"
        source = write(tmp_path / "x.csv", text.replace("\n", end).encode(encoding))
        assert [r.captions[0] for r in formats.read(source).records] == [
            "Un café près de la mer",
            "It’s a dog",
        ]

    def test_an_encoding_that_must_be_named(self, tmp_path: Path) -> None:
        source = write(tmp_path / "x.csv", "image,caption\n0.jpg,Un café\n".encode("cp1252"))
        (record,) = formats.read(source, reading=Reading("cp1252")).records
        assert record.captions == ["Un café"]
        assert any("name the encoding" in line for line in check(source, progress=False))
        mapping = write(tmp_path / "x.json", '{"a.jpg": "Un café"}'.encode("cp1252"))
        with pytest.raises(DataError, match="name its encoding, such as cp1252"):
            formats.read(mapping)
        assert formats.read(mapping, reading=Reading("cp1252")).records[0].captions == ["Un café"]


class TestObjects:
    @pytest.mark.parametrize(
        "content",
        [
            [{"image": "a.jpg", "caption": "A dog", "image_id": "coco_1"},
             {"image": "a.jpg", "caption": "Dog", "image_id": "coco_1"},
             {"image": "b.jpg", "caption": "A cat", "image_id": "coco_2"}],
            [{"image": "a.jpg", "caption": ["A dog", "Dog"]},
             {"image": "b.jpg", "caption": ["A cat"]}],
            '{"file_name": "a.jpg", "text": "A dog"}\n{"file_name": "a.jpg", "text": "Dog"}\n\n'
            '{"file_name": "b.jpg", "text": "A cat"}\n',
            [{"image": "a.jpg", "caption": "A dog", "n_best": []},
             {"image": "a.jpg", "caption": "Dog"}, {"image": "b.jpg", "caption": "A cat"}],
        ],
    )  # fmt: skip
    def test_lists_and_lines(self, tmp_path: Path, content: Any) -> None:
        listing = formats.read(write(tmp_path / "x.json", content))
        assert {r.name: r.captions for r in listing.records} == {
            "a.jpg": ["A dog", "Dog"],
            "b.jpg": ["A cat"],
        }
        assert listing.source["files"][0]["format"] == "list"
        assert not listing.problems

    def test_one_line_is_json_lines_by_its_suffix(self, tmp_path: Path) -> None:
        line = '{"file_name": "a.jpg", "text": "A dog"}\n'
        listing = formats.read(write(tmp_path / "metadata.jsonl", line))
        assert [(r.name, r.captions) for r in listing.records] == [("a.jpg", ["A dog"])]

    def test_bad_rows(self, tmp_path: Path) -> None:
        text = (
            '{"image": "a.jpg", "caption": "A dog"}\n{"image": \n{"image": "b.jpg"}\n7\n'
            '{"caption": "x"}\n' + "[" * 100_000 + "\n"
        )
        listing = formats.read(write(tmp_path / "x.jsonl", text))
        assert [r.name for r in listing.records] == ["a.jpg"]
        assert [line.split(":")[0] for line in listing.problems] == [
            *("x.jsonl, line 2", "x.jsonl, line 6"),
            *("x.jsonl, entry 3", "x.jsonl, entry 2", "x.jsonl, entry 4"),
        ]

    def test_images_that_could_not_be_read_are_noted(self, tmp_path: Path) -> None:
        rows = [
            {"image": "a.jpg", "text": "A dog", "error": 0.1},  # a column of someone else
            {"image": "b.jpg", "error": "b.jpg: is empty"},  # of `dlmie caption`
        ]
        listing = formats.read(write(tmp_path / "x.json", rows))
        assert [(r.name, r.captions) for r in listing.records] == [("a.jpg", ["A dog"])]
        assert not listing.problems
        assert listing.notes == ["x.json, entry 2: b.jpg has no caption but an error; left out"]

    def test_folders_of_hugging_face(self, tmp_path: Path) -> None:
        sources = []
        for split in ("train", "validation"):
            (tmp_path / split).mkdir()
            line = json.dumps({"file_name": f"{split}.jpg", "text": "a dog"})
            sources.append(write(tmp_path / split / "metadata.jsonl", line))
        assert [r.split for r in formats.read(sources).records] == ["train", "dev"]
        # alone, the folder that a file happens to lie in says nothing
        assert formats.read(sources[1]).source["files"][0]["by"] == "shares"


class TestLabels:
    """What a data set calls its images is any text or number."""

    @pytest.mark.parametrize(
        "labels",
        [
            [10**20, 10**20 + 1], ["ab-0", "ab-1"], ["000139", 139], [-5, 0], [2**63, 1],
            [139.0, 285.0],
        ],
    )  # fmt: skip
    def test_of_coco(self, tmp_path: Path, labels: list[Any]) -> None:
        document = {
            "images": [{"id": i, "file_name": f"{n}.jpg"} for n, i in enumerate(labels)],
            "annotations": [
                {"id": n, "image_id": i, "caption": f"dog {n}"} for n, i in enumerate(labels)
            ],
        }
        listing = formats.read(write(tmp_path / "x.json", document))
        assert listing.problems == []
        assert [r.image_id for r in listing.records] == labels
        assert [r.captions for r in listing.records] == [["dog 0"], ["dog 1"]]

    @pytest.mark.parametrize("label", [None, True, [1], {}, "", 1.5, float("nan")])
    def test_what_is_none(self, tmp_path: Path, label: Any) -> None:
        document = {
            "images": [{"id": 1, "file_name": "a.jpg"}, {"id": label, "file_name": "b.jpg"}],
            "annotations": [{"image_id": 1, "caption": "x"}, {"image_id": label, "caption": "y"}],
        }
        listing = formats.read(write(tmp_path / "x.json", document))
        assert [r.captions for r in listing.records] == [["x"]]
        assert len(listing.problems) == 2

    def test_zeros_before_a_number_are_hinted_at(self, tmp_path: Path) -> None:
        document = {
            "images": [{"id": 139, "file_name": "a.jpg"}],
            "annotations": [
                {"image_id": 139, "caption": "x"},
                {"image_id": "000139", "caption": "y"},
            ],
        }
        (problem,) = formats.read(write(tmp_path / "x.json", document)).problems
        assert "unknown image 000139 (there is 139: ids must be written alike)" in problem


class TestRejected:
    def test_captions_that_vizwiz_rejected_are_left_out_and_counted(self, tmp_path: Path) -> None:
        document = {
            "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
            "annotations": [
                {"image_id": 1, "caption": "A dog", "is_rejected": False, "is_precanned": False},
                {"image_id": 1, "caption": "Quality issues", "is_rejected": True},
                {"image_id": 2, "caption": "A cat", "is_rejected": False},
            ],
        }
        table = "image,caption,is_rejected\na.jpg,A dog,False\na.jpg,Bad,True\nb.jpg,A cat,0\n"
        for name, content in (("x.json", document), ("x.csv", table)):
            listing = formats.read(write(tmp_path / name, content))
            assert [r.captions for r in listing.records] == [["A dog"], ["A cat"]]
            assert listing.problems == []
            assert listing.notes == [f"{name}: 1 rejected captions were left out"]


class TestSplitting:
    def coco(self, path: Path, names: list[str]) -> Path:
        return write(
            path,
            {
                "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
                "annotations": [{"image_id": n, "caption": "a dog"} for n in range(len(names))],
            },
        )

    def splits(self, listing: formats.Listing) -> dict[str, str]:
        return {record.name: record.split for record in listing.records}

    def test_files_named_by_whole_words(self, tmp_path: Path) -> None:
        train = self.coco(tmp_path / "captions_train.json", ["a", "b"])
        valid = self.coco(tmp_path / "captions_valid.json", ["c"])
        listing = formats.read([train, valid])
        assert self.splits(listing) == {"a": "train", "b": "train", "c": "dev"}
        assert listing.source["files"][1] == {
            "file": "captions_valid.json",
            "format": "coco",
            "splits": {"dev": 1},
            "by": "its name",
        }

    @pytest.mark.parametrize("name", ["latest.json", "contest_2024.json", "invalid.json"])
    def test_pieces_of_words_name_nothing(self, tmp_path: Path, name: str) -> None:
        listing = formats.read(self.coco(tmp_path / name, [str(n) for n in range(10)]))
        assert sorted(set(self.splits(listing).values())) == ["dev", "test", "train"]
        assert listing.source["files"][0]["by"] == "shares"

    @pytest.mark.parametrize("name", ["val.csv", "validation.csv", "My-Valid.csv"])
    def test_tables_are_named_like_other_files(self, tmp_path: Path, name: str) -> None:
        train = write(tmp_path / "train.csv", "a.jpg,a dog\n")
        listing = formats.read([train, write(tmp_path / name, "b.jpg,a dog\n")])
        assert self.splits(listing) == {"a.jpg": "train", "b.jpg": "dev"}

    def test_a_name_of_two_splits_names_none_and_is_said(self, tmp_path: Path) -> None:
        listing = formats.read(self.coco(tmp_path / "train_val.json", ["a"]))
        assert "mentions dev and train" in listing.notes[0]
        assert "--split-of" in listing.notes[0]

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (["Train", " VAL", "TEST"], ["train", "dev", "test"]),
            (["TRAINING", "validation", "Testing"], ["train", "dev", "test"]),
            (["train", "valid", "night shots"], ["train", "dev", "night_shots"]),
        ],
    )
    def test_columns_in_any_spelling(
        self, tmp_path: Path, cells: list[str], expected: list[str]
    ) -> None:
        rows = "".join(f"{n}.jpg,a dog,{cell}\n" for n, cell in enumerate(cells))
        listing = formats.read(write(tmp_path / "x.csv", f"image,caption,split\n{rows}"))
        assert [record.split for record in listing.records] == expected
        assert bool(listing.notes) == ("night_shots" in expected)

    def test_named_and_divided_are_never_mixed(self, tmp_path: Path) -> None:
        rows = "".join(f"{n}.jpg,a dog,{'test' if n > 15 else ''}\n" for n in range(20))
        listing = formats.read(write(tmp_path / "x.csv", f"image,caption,split\n{rows}"))
        found = list(self.splits(listing).values())
        assert found == ["train"] * 16 + ["test"] * 4
        assert listing.notes == [
            "16 images name no split and are in train, because 4 others name theirs"
        ]
        more = write(tmp_path / "more.json", {f"m{n}.jpg": ["a dog"] for n in range(10)})
        both = formats.read([tmp_path / "x.csv", more])
        assert {self.splits(both)[f"m{n}.jpg"] for n in range(10)} == {"train"}

    def test_a_file_told_its_split(self, tmp_path: Path) -> None:
        one = self.coco(tmp_path / "captions_valid.json", ["a"])
        two = write(tmp_path / "x.csv", "image,caption,split\nb,a dog,train\n")
        told = {str(one): "Train", "x.csv": "validation"}
        listing = formats.read([one, two], split_of=told)
        assert self.splits(listing) == {"a": "train", "b": "dev"}
        assert {file["by"] for file in listing.source["files"]} == {"--split-of"}
        divided = formats.read(one, split_of={"captions_valid": "shares"})
        assert self.splits(divided) == {"a": "train"}
        with pytest.raises(DataError, match=r"'y\.csv' is not one of the captions files"):
            formats.read(two, split_of={"y.csv": "train"})
        with pytest.raises(DataError, match="is not the name of a split"):
            formats.read(two, split_of={"x.csv": ""})
        with pytest.raises(DataError, match="or the split of each file"):
            formats.read(two, split_of={"x.csv": "dev"}, splits={"train": ["b"]})

    def test_nothing_to_train_on_says_why(self, tmp_path: Path) -> None:
        source = self.coco(tmp_path / "captions_valid.json", ["a"])
        with pytest.raises(
            DataError, match=r"captions_valid.json is 'dev' by its name \(--split-of"
        ):
            Captions.prepare(source, to=tmp_path / "x.h5", progress=False)

    def test_one_image_in_two_files(self, tmp_path: Path) -> None:
        one = write(tmp_path / "captions.json", {"a.jpg": ["a dog"]})
        two = write(tmp_path / "test.json", {"a.jpg": ["the dog"]})
        three = write(tmp_path / "train.json", {"a.jpg": ["dog"]})
        listing = formats.read([one, two, three])
        assert self.splits(listing) == {"a.jpg": "test"}
        assert any("is in 'test' and 'train'; the first counts" in p for p in listing.problems)

    def test_shares_seed_and_groups(self, tmp_path: Path) -> None:
        names = [f"v{n // 10}_{n}.jpg" for n in range(100)]
        source = write(tmp_path / "x.json", {name: ["a dog"] for name in names})
        halves = self.splits(formats.read(source, shares=(50, 50)))
        assert sorted(map(list(halves.values()).count, ("dev", "train"))) == [50, 50]
        assert self.splits(formats.read(source, seed=1)) != self.splits(formats.read(source))
        found = self.splits(formats.read(source, groups=r"^(v\d)_"))
        assert all(len({found[n] for n in names if n.startswith(f"v{k}_")}) == 1 for k in range(10))
        with pytest.raises(DataError, match="is not a regular expression"):
            formats.read(source, groups="(")

    def test_a_column_of_groups(self, tmp_path: Path) -> None:
        rows = "".join(f"{n}.jpg,a dog,{n // 5}\n" for n in range(50))
        source = write(tmp_path / "x.csv", f"image,caption,video\n{rows}")
        listing = formats.read(source, reading=Reading(group_column="Video"))
        found = [record.split for record in listing.records]
        assert all(len(set(found[n : n + 5])) == 1 for n in range(0, 50, 5))

    def test_lists_may_hold_odd_names(self, tmp_path: Path) -> None:
        source = write(tmp_path / "x.json", {"a\u2028b.jpg": ["a dog"], "c.jpg": ["a dog"]})
        names = write(tmp_path / "names.txt", "a\u2028b.jpg\n".encode("utf-16"))
        listing = formats.read(source, splits={"Training": names})
        assert self.splits(listing) == {"a\u2028b.jpg": "train"}
        assert listing.problems == []
        assert listing.notes == ["x.json: 1 images that no list names were left out"]


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
        with pytest.raises(DataError, match="flickr, coco, karpathy, list, mapping, csv"):
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
