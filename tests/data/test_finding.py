"""Images are found by what they are: nothing is guessed, and nothing is left out unsaid."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from dlmie.data.captions import formats
from dlmie.data.captions.checking import check
from dlmie.data.captions.dataset import Captions
from dlmie.data.images import (
    ImageError,
    ImageFolder,
    existing_path,
    find_images,
    form_of,
    load_image,
    save_image,
)
from dlmie.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))


def picture(path: Path, level: int = 0) -> Path:
    return save_image(path, np.full((4, 4, 3), level, np.uint8))


def rows(path: Path, *names: str) -> Path:
    path.write_text("image,caption\n" + "".join(f"{name},a dog\n" for name in names), "utf-8")
    return path


class TestFolders:
    def test_every_picture_is_listed(self, tmp_path: Path) -> None:
        jpeg = picture(tmp_path / "a.jpg").read_bytes()
        for name in ("b.JPG", "c.jpg_large", "noext", "d.apng", "e.dib", "f.j2k", "g.avif"):
            (tmp_path / name).write_bytes(jpeg)
        for name in ("h.HEIC", "i.nef", "j.svg"):  # kinds that say what to do when they are read
            (tmp_path / name).write_bytes(b"something")
        expected = {path.name for path in tmp_path.iterdir()}
        for name in ("notes.txt", "captions.csv", ".hidden.jpg"):
            (tmp_path / name).write_bytes(b"text")
        for name in ("a.jpg.part", "a.jpg.bak", "a.jpg~"):
            (tmp_path / name).write_bytes(jpeg)
        assert {path.name for path in find_images(tmp_path)} == expected

    def test_linked_folders_are_entered_once(self, tmp_path: Path) -> None:
        inside = picture(tmp_path / "photos" / "day" / "a.png")
        elsewhere = picture(tmp_path / "elsewhere" / "b.png")
        (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
        (tmp_path / "photos" / "also").symlink_to(tmp_path / "photos" / "day")
        (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "photos")
        found = find_images(tmp_path / "photos")
        assert found == [inside, tmp_path / "photos" / "linked" / elsewhere.name]

    def test_a_link_to_nothing_is_listed_and_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
        assert find_images(tmp_path) == [tmp_path / "gone.jpg"]
        with pytest.raises(ImageError, match="no such file"):
            load_image(tmp_path / "gone.jpg")

    def test_pipes_are_not_opened(self, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        os.mkfifo(tmp_path / "pipe")
        assert find_images(tmp_path) == [tmp_path / "a.png"]

    def test_the_phone_folder(self, shared: Path) -> None:
        folder = shared / "cases" / "inputs" / "phone-folder"
        assert find_images(folder) == sorted(folder.iterdir())


class TestNamedByPeople:
    @pytest.mark.parametrize(("there", "said"), [(NFC, NFD), (NFD, NFC), ("A.JPG", "a.jpg")])
    def test_another_form_of_the_name(self, tmp_path: Path, there: str, said: str) -> None:
        path = tmp_path / "Sub" / there
        path.parent.mkdir()
        path.write_bytes(b"x")
        assert existing_path(tmp_path / "sub" / said) == path

    def test_two_forms_are_not_guessed(self, tmp_path: Path) -> None:
        for name in ("a.jpg", "A.jpg"):
            (tmp_path / name).write_bytes(b"x")
        if len(list(tmp_path.iterdir())) < 2:
            pytest.skip("this file system does not tell case")
        assert existing_path(tmp_path / "A.jpg") == tmp_path / "A.jpg"
        with pytest.raises(DataError, match=r"several files: .*A\.jpg, .*a\.jpg"):
            existing_path(tmp_path / "a.JPG")

    def test_what_is_missing_and_what_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "kitten.jpg").write_bytes(b"x")
        with pytest.raises(DataError, match=r"no such file.*did you mean 'kitten\.jpg'"):
            existing_path(tmp_path / "kiten.jpg")
        with pytest.raises(DataError, match=r"^https://x/y\.jpg: is an address"):
            find_images(["https://x/y.jpg"])
        for name in ("a" * 300 + ".jpg", "a\0.jpg"):
            with pytest.raises(DataError, match="no such file"):
                existing_path(tmp_path / name)


class TestNamedByFiles:
    @pytest.mark.parametrize(
        ("there", "said"),
        [
            (NFD, NFC),
            (NFC, NFD),
            ("IMG_1.JPG", "img_1.jpg"),
            ("cats/a.jpg", r"cats\a.jpg"),
            ("cats/a.jpg", r"images\cats\a.jpg"),
            ("b.jpg", r"C:\Users\me\images\b.jpg"),
            ("b.jpg", "/home/other/images/b.jpg"),
            ("0.jpg", "0"),
            ("train/12.PNG", "train/12"),
            ("deep/er/a.jpg", "a.jpg"),
            ("deep/er/a.jpg", "er/a.jpg"),
            ("a.jpg", "./x/../a.jpg"),
        ],
    )
    def test_forms_and_tails(self, tmp_path: Path, there: str, said: str) -> None:
        path = tmp_path / "images" / there
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        found = ImageFolder(tmp_path, tmp_path / "images").find(said)
        assert (found.path, found.problem) == (path, None)

    def test_without_a_folder_the_usual_ones_are_looked_into(self, tmp_path: Path) -> None:
        path = picture(tmp_path / "images" / "cats" / "A.png")
        assert ImageFolder(tmp_path, None).find(r"cats\a.PNG").path == path
        assert ImageFolder(tmp_path, None).find(r"images\cats\a").path == path
        assert ImageFolder(tmp_path, None).find("a.png").problem  # but nothing is searched

    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            ("dogs/001.jpg", "no such file"),  # though there is cats/001.jpg
            ("001.jpg", r"several files: .*birds/001\.jpg, .*cats/001\.jpg"),
            ("cats/1.jpg", "no such file"),
            ("cats/001.png", "no such file.*did you mean '001.jpg'"),
            ("../outside.jpg", "lies outside"),
            ("cats/../../outside.jpg", "lies outside"),
            ("..\\outside.jpg", "lies outside"),
            ("/etc/hostname", "lies outside"),
            ("D:\\elsewhere\\001.jpg", "lies outside"),
            ("http://example.org/cats/001.jpg", "is an address"),
            ("x" * 300 + ".jpg", r"too long .*\(304 bytes\)"),
            ("é" * 200 + ".jpg", r"too long .*\(404 bytes\)"),
            ("a\0b.jpg", "no such file"),
            ("", "lies outside"),
        ],
    )
    def test_problems(self, tmp_path: Path, said: str, problem: str) -> None:
        picture(tmp_path / "outside.jpg")
        for folder in ("cats", "birds"):
            picture(tmp_path / "images" / folder / "001.jpg")
        found = ImageFolder(tmp_path, tmp_path / "images").find(said)
        assert found.problem is not None
        assert re.search(problem, found.problem)

    def test_nor_does_the_folder_that_a_file_names_lead_out(self, tmp_path: Path) -> None:
        picture(tmp_path / "secret" / "a.jpg")
        (tmp_path / "images").mkdir()
        files = ImageFolder(tmp_path, tmp_path / "images")
        for folder in ("../secret", str(tmp_path / "secret"), "x/../../secret"):
            assert files.find("a.jpg", folder).problem
        assert files.find(str(tmp_path / "images")).problem  # the folder itself

    def test_absolute_names_inside(self, tmp_path: Path) -> None:
        path = picture(tmp_path / "images" / "a.jpg")
        assert ImageFolder(tmp_path, tmp_path / "images").find(str(path)).path == path
        other = picture(tmp_path / "other" / "images" / "a.jpg")
        assert ImageFolder(tmp_path, tmp_path / "images").find(str(other)).problem

    def test_hints_decide_between_files_that_fit(self, tmp_path: Path) -> None:
        for folder in ("train2014", "val"):
            picture(tmp_path / "images" / folder / "0.jpg")
        files = ImageFolder(tmp_path, tmp_path / "images")
        assert files.find("0.jpg").problem
        assert files.find("0.jpg", hints=("train",)).path.parent.name == "train2014"
        assert files.find("0.jpg", hints=("dev", "val")).path.parent.name == "val"
        assert files.find("0.jpg", hints=("test",)).problem

    def test_forms(self) -> None:
        assert form_of("CAFÉ\\A.JPG") == form_of(unicodedata.normalize("NFD", "café/a.jpg"))
        assert form_of("straße") == form_of("STRASSE")
        assert form_of("a") != form_of("á")


class TestIdentity:
    """An image is the file that was found, whatever it is called."""

    def coco(self, path: Path, word: str) -> Path:
        document = {
            "images": [{"id": n, "file_name": f"{n}.png"} for n in range(2)],
            "annotations": [{"image_id": n, "caption": f"{word} {n}"} for n in range(2)],
        }
        path.write_text(json.dumps(document))
        return path

    def test_equal_names_in_two_splits_are_two_images(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            for number in range(2):
                picture(tmp_path / "img" / split / f"{number}.png", 50 * number)
        sources = [self.coco(tmp_path / f"captions_{s}.json", s) for s in ("train", "val")]
        listing = formats.read(sources, images=tmp_path / "img")
        assert not listing.problems
        assert {record.name: (record.captions, record.split) for record in listing.records} == {
            "train/0.png": (["train 0"], "train"),
            "train/1.png": (["train 1"], "train"),
            "val/0.png": (["val 0"], "dev"),
            "val/1.png": (["val 1"], "dev"),
        }

    def test_equal_names_beside_two_captions_files(self, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            picture(tmp_path / folder / "images" / "a.png")
        sources = [rows(tmp_path / folder / "c.csv", "a.png") for folder in ("one", "two")]
        listing = formats.read(sources)
        assert [r.name for r in listing.records] == ["one/images/a.png", "two/images/a.png"]

    def test_two_names_of_one_file_are_one_image(self, tmp_path: Path) -> None:
        picture(tmp_path / "images" / "a.png")
        source = rows(tmp_path / "c.csv", "a.png", "./a.png", "images\\A.png")
        listing = formats.read(source)
        assert [(r.name, len(r.captions)) for r in listing.records] == [("a.png", 3)]
        assert len(listing.problems) == 2
        assert "./a.png, as a.png, is listed more than once" in listing.problems[0]

    def test_ambiguity_is_listed_and_left_out(self, tmp_path: Path) -> None:
        for folder in ("a", "b"):
            picture(tmp_path / "img" / folder / "x.png")
        picture(tmp_path / "img" / "y.png")
        source = rows(tmp_path / "c.csv", "x.png", "y.png", "../c.csv", "l" * 300 + ".png")
        names = {"train": ["y.png", "x.png", "../c.csv", "l" * 300 + ".png"]}
        problems = check(source, images=tmp_path / "img", splits=names, progress=False)
        assert sum("fits several files" in line for line in problems) == 1
        assert sum("lies outside" in line for line in problems) == 1
        assert max(len(line) for line in problems if "too long" in line) < 200
        data = Captions.prepare(
            source, to=tmp_path / "d.h5", images=tmp_path / "img", splits=names, min_count=1,
            size=8, progress=False,
        )  # fmt: skip
        assert data["train"].names == ["y.png"]
        assert len(data.header["skipped"]) == 3

    def test_lists_of_splits_in_another_form(self, tmp_path: Path) -> None:
        source = rows(tmp_path / "c.csv", NFC, "B.JPG", "images\\c.png")
        lists = {"train": [NFD, "b"], "dev": ["images/c.png"]}
        listing = formats.read(source, splits=lists)
        assert [record.split for record in listing.records] == ["train", "train", "dev"]
        assert not listing.problems

    def test_paths_that_another_system_wrote_differently(self, tmp_path: Path) -> None:
        folder = tmp_path / "images"
        picture(folder / NFC, 9)
        source = rows(tmp_path / "c.csv", NFC)
        data = Captions.prepare(
            source, to=tmp_path / "d.h5", splits={"train": [NFC]}, min_count=1, size=4,
            store="paths", progress=False,
        )  # fmt: skip
        data.close()
        (folder / NFC).rename(folder / NFD)
        assert (Captions(tmp_path / "d.h5")["train"].load_images([0]) == 9).all()

    def test_the_cases(self, shared: Path) -> None:
        inputs = shared / "cases" / "inputs"
        same = inputs / "same-names"
        missing = {
            r.name for r in formats.read(same / "captions.csv", images=same / "pets").records
            if r.missing
        }  # fmt: skip
        assert missing == {"dogs/001.jpg"}
        for name, images in (("windows-paths", "images"), ("nfd-names", "img")):
            listing = formats.read(inputs / name / "c.csv", images=inputs / name / images)
            assert [record.missing for record in listing.records] == [None] * len(listing.records)
        flat = formats.read(
            inputs / "same-names-flat" / "c.csv", images=inputs / "same-names-flat" / "img"
        )
        assert "several files" in str(flat.records[0].missing)
