"""prepare and score: good data, broken data, full disks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dlmie import captioning
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.vocabulary import UNK


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve photographs and a Flickr file about them with five broken rows."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for number in range(12):
        name = f"photo{number}.jpg"
        shade = np.full((24, 32, 3), 20 * number, np.uint8)
        PIL.Image.fromarray(shade).save(folder / name)
        rows += [f"{name}#{k}\tA dog runs over patch {k} ." for k in range(2)]
    rows[3] = "no tab in this row"
    rows[5] = "photo2.jpg#1\t"
    rows += ["missing.jpg#0\tNobody took this photograph ."]
    (folder / "photo4.jpg").write_bytes(b"broken")
    (folder / "photo5.jpg").write_bytes(b"")
    source = tmp_path / "set.token.txt"
    source.write_text("\n".join(rows) + "\n")
    return source


class TestPrepare:
    def test_bad_images_are_left_out_and_listed(self, pictures: Path, invoke: Any) -> None:
        to = pictures.parent / "set.h5"
        result = invoke("prepare", pictures, "--to", to, "--size", 16, "--min-count", 1, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        names = {entry["name"] for entry in document["skipped"]}
        assert {"photo4.jpg", "photo5.jpg", "missing.jpg"} <= names
        assert document["problems"]
        for name in names:
            assert name in result.stderr
        assert document["words"] == len({"a", "dog", "runs", "over", "patch", "0", "1"}) + 4

    def test_check_lists_every_problem_and_writes_nothing(
        self, pictures: Path, invoke: Any
    ) -> None:
        before = sorted(pictures.parent.iterdir())
        result = invoke("prepare", pictures, "--check", "--quiet")
        assert result.exit_code == 1
        lines = result.stdout.splitlines()
        assert lines[-1] == f"{len(lines) - 1} problems"
        for word in ("photo4.jpg", "photo5.jpg", "missing.jpg", "set.token.txt"):
            assert word in result.stdout, result.stdout
        assert sorted(pictures.parent.iterdir()) == before
        as_json = invoke("prepare", pictures, "--check", "--quiet", "--json")
        assert json.loads(as_json.stdout)["problems"] == lines[:-1]

    def test_words_of_another_data_set(
        self, pictures: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        first, more, to = tmp_path / "first.h5", tmp_path / "more.json", tmp_path / "more.h5"
        made = invoke("prepare", pictures, "--to", first, "--size", 16, "--min-count", 1)
        assert made.exit_code == 0, made.output
        more.write_text(json.dumps({f"photo{n}.jpg": [f"a dog finds patch {n}"] for n in range(4)}))
        options = ("--images", pictures.parent / "images", "--size", 16, "--vocabulary", first)
        result = invoke("prepare", more, "--to", to, *options)
        assert result.exit_code == 0, result.output
        data, before = Captions(to), Captions(first)
        assert data.vocabulary.hash == before.vocabulary.hash
        unknown = {word for tokens in data["train"].tokens for word in tokens.tolist()}
        assert UNK in unknown  # "finds"
        assert "--vocabulary: " in result.stderr
        # The same again is the same file; the words are a part of what it is.
        assert invoke("prepare", more, "--to", to, *options).exit_code == 0
        assert "holds something else" in fails("prepare", more, "--to", to, *options[:4])
        line = fails("prepare", more, "--to", to, *options, "--min-count", 2, code=2)
        assert "--min-count does not go with --vocabulary" in line
        shipped = invoke("prepare", more, "--to", tmp_path / "s.h5", *options[:4], "--vocabulary",
                         "flickr8k")  # fmt: skip
        assert shipped.exit_code == 0, shipped.output
        known = Captions(tmp_path / "s.h5").vocabulary
        assert known.hash == captioning.load("flickr8k").vocabulary.hash

    def test_strict_fails_with_the_first_problem(self, pictures: Path, fails: Any) -> None:
        to = pictures.parent / "set.h5"
        assert "--check" in fails("prepare", pictures, "--to", to, "--strict")
        assert not to.exists()

    def test_split_lists(self, pictures: Path, invoke: Any, fails: Any) -> None:
        for split, numbers in (("train", range(4)), ("dev", range(6, 8))):
            names = "".join(f"photo{n}.jpg\n" for n in numbers)
            (pictures.parent / f"{split}.txt").write_text(names)
        to = pictures.parent / "set.h5"
        lists = [f"--splits={s}={pictures.parent / s}.txt" for s in ("train", "dev")]
        result = invoke("prepare", pictures, "--to", to, "--size", 8, *lists, "--json")
        splits = json.loads(result.stdout)["splits"]
        assert {name: split["images"] for name, split in splits.items()} == {"train": 4, "dev": 2}
        assert "SPLIT=FILE" in fails("prepare", pictures, "--to", to, "--splits", "dev", code=2)

    def test_misuse(self, pictures: Path, fails: Any) -> None:
        assert "--to FILE" in fails("prepare", pictures, code=2)
        assert "is for scenes" in fails("prepare", pictures, "--to", "x.h5", "--dev", 3, code=2)
        assert "does not apply to scenes" in fails(
            "prepare", "scenes", "--to", "x.h5", "--min-count", 3, code=2
        )

    def test_missing_and_unknown_files(self, tmp_path: Path, fails: Any) -> None:
        assert "no such file" in fails("prepare", tmp_path / "none.txt", "--to", tmp_path / "x.h5")
        odd = tmp_path / "odd.txt"
        odd.write_text("hello\nworld\n")
        assert "none of the known formats" in fails("prepare", odd, "--to", tmp_path / "x.h5")

    def test_another_file_is_not_replaced(self, scenes: Path, fails: Any) -> None:
        line = fails("prepare", "scenes", "--to", scenes, "--train", 9)
        assert "holds something else" in line

    def test_full_disk(self, tmp_path: Path) -> None:
        # A limit on the size of files is what a full disk looks like to one process.
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
            "from dlmie.cli import main\n"
            f"main(['prepare', 'scenes', '--to', {str(tmp_path / 'x.h5')!r}, '-q'])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert "x.h5 was not written: the disk is full" in done.stderr
        assert not (tmp_path / "x.h5").exists()


class TestTables:
    """Which file became which split, columns, labels and rare words, as they are told."""

    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        folder = tmp_path / "images"
        folder.mkdir()
        for number in range(10):
            shade = np.full((8, 8, 3), 20 * number, np.uint8)
            PIL.Image.fromarray(shade).save(folder / f"{number}.png")
        return folder

    def mapping(self, path: Path, numbers: range) -> Path:
        path.write_text(json.dumps({f"{n}.png": [f"a dog {n}"] for n in numbers}))
        return path

    def test_the_table_of_files_and_the_words_that_are_lost(
        self, images: Path, tmp_path: Path, invoke: Any
    ) -> None:
        train = self.mapping(tmp_path / "train.json", range(8))
        valid = self.mapping(tmp_path / "captions_valid.json", range(8, 10))
        to = ("--to", tmp_path / "x.h5", "--size", 8)
        result = invoke("prepare", train, valid, "--images", images, *to, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert [file["splits"] for file in document["files"]] == [{"train": 8}, {"dev": 2}]
        assert document["unknown_words"] == {
            "types": 8,
            "of_types": 10,
            "tokens": 8,
            "of_tokens": 24,
        }
        lines = [line.split() for line in result.stderr.splitlines()]
        assert ["train.json", "train", "8", "by", "its", "name"] in lines
        assert ["captions_valid.json", "dev", "2", "by", "its", "name"] in lines
        assert "8 of 10 different words" in result.stderr
        assert "33.3 % of all their words" in result.stderr

    def test_check_tells_the_same(self, images: Path, tmp_path: Path, invoke: Any) -> None:
        source = self.mapping(tmp_path / "latest.json", range(10))
        told = ("--split-of", "latest.json=Test", "--images", images, "--check", "--json")
        result = invoke("prepare", source, *told)
        assert result.exit_code == 1
        document = json.loads(result.stdout)
        assert document["files"][0]["by"] == "--split-of"
        assert "no training image" in document["problems"][0]
        shared = invoke("prepare", source, "--images", images, "--check", "--shares", "5/5")
        assert shared.exit_code == 0, shared.output
        assert "train 5, dev 5" in shared.stderr

    @pytest.mark.parametrize("labels", [[10**20, 10**20 + 1], ["ab-0", "ab-1"], [-1, 2**63]])
    def test_labels_that_check_passes_are_prepared(
        self, images: Path, tmp_path: Path, invoke: Any, labels: list[Any]
    ) -> None:
        source = tmp_path / "train.json"
        document = {
            "images": [{"id": i, "file_name": f"{n}.png"} for n, i in enumerate(labels)],
            "annotations": [{"image_id": i, "caption": "a dog"} for i in labels],
        }
        source.write_text(json.dumps(document))
        options = ("--images", images, "--size", 8)
        assert invoke("prepare", source, *options, "--check").exit_code == 0
        result = invoke("prepare", source, *options, "--to", tmp_path / "x.h5")
        assert result.exit_code == 0, result.output
        assert Captions(tmp_path / "x.h5")["train"].image_ids == labels

    def test_options_of_tables(self, images: Path, tmp_path: Path, invoke: Any) -> None:
        source = tmp_path / "train.csv"
        source.write_bytes("bild;satz\n1.png;ein Bär\n2.png;ein Reh\n".encode("cp1252"))
        columns = ("--image-column", "bild", "--caption-column", "satz", "--encoding", "cp1252")
        options = ("--images", images, "--size", 8, "--to", tmp_path / "x.h5")
        result = invoke("prepare", source, *columns, *options)
        assert result.exit_code == 0, result.output
        assert Captions(tmp_path / "x.h5")["train"].references == [["ein Bär"], ["ein Reh"]]
        scored = invoke("score", source, source, *columns, "--json")
        assert json.loads(scored.stdout)["bleu_2"] == 1.0

    def test_misuse(self, tmp_path: Path, fails: Any) -> None:
        source = self.mapping(tmp_path / "x.json", range(3))
        to = ("--to", tmp_path / "x.h5")
        assert "FILE=SPLIT" in fails("prepare", source, *to, "--split-of", "dev", code=2)
        assert "80/10/10" in fails("prepare", source, *to, "--shares", "0/1", code=2)
        assert "80/10/10" in fails("prepare", source, *to, "--shares", "most", code=2)
        twice = ("--split-of", "x.json=dev", "--split-of", "x.json=train")
        assert "named twice" in fails("prepare", source, *to, *twice, code=2)
        odd = tmp_path / "odd.csv"
        odd.write_text("bild,satz\na.jpg,ein Reh\n")
        assert "It has bild, satz" in fails("prepare", odd, "--check")


class TestScore:
    @pytest.fixture
    def files(self, tmp_path: Path) -> tuple[Path, Path]:
        said = {"a.jpg": "a red dog runs fast", "b.jpg": "two small cats sleep here"}
        meant = {
            "a.jpg": ["a red dog runs", "the red dog runs fast"],
            "b.jpg": ["two cats sleep", "two small cats sleep"],
        }
        hypotheses, references = tmp_path / "said.json", tmp_path / "meant.json"
        hypotheses.write_text(json.dumps(said))
        references.write_text(json.dumps(meant))
        return hypotheses, references

    def test_json_holds_full_doubles_at_the_top(
        self, files: tuple[Path, Path], invoke: Any
    ) -> None:
        result = invoke("score", *files, "--json")
        document = json.loads(result.stdout)
        assert set(document) == {
            *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "protocol"),
        }
        text = invoke("score", *files).stdout
        assert f"bleu_4   {document['bleu_4']:.4f}" in text
        assert "unsmoothed corpus BLEU of NLTK" in text

    def test_intervals(self, files: tuple[Path, Path], invoke: Any) -> None:
        result = invoke("score", *files, "--json", "--bootstrap", 50, "--seed", 3)
        document = json.loads(result.stdout)
        low, high = document["bleu_4_interval"]
        assert low <= document["bleu_4"] <= high
        assert document["protocol"]["bootstrap"]["seed"] == 3

    def test_errors_name_the_file(self, files: tuple[Path, Path], fails: Any) -> None:
        hypotheses, references = files
        assert "no such file" in fails("score", hypotheses.parent / "none.json", references)
        hypotheses.write_text('{"a.jpg": "a dog"}')
        assert "b.jpg" in fails("score", *files)
        hypotheses.write_text('{"a.jpg": ')
        assert "said.json" in fails("score", *files)
