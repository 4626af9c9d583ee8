"""prepare and inspect with labeled images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from labelled_cases import write_cifar, write_class_folders, write_image, write_mnist

from dlmie.data import LabelledImages


class TestPrepare:
    def test_the_splits_of_the_course(self, tmp_path: Path, invoke: Any) -> None:
        to = tmp_path / "c.h5"
        wanted = ("--splits", "train=90,dev=10,test=15")
        result = invoke("prepare", write_cifar(tmp_path), "--to", to, *wanted, "--json")
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        sizes = {name: split["images"] for name, split in document["splits"].items()}
        assert sizes == {"train": 90, "dev": 10, "test": 15}
        assert document["hash"] == LabelledImages(to).hash
        assert "data_batch_1 has 20 of 10,000 images" in result.stderr

    def test_numbers_may_be_given_one_by_one(self, tmp_path: Path, invoke: Any) -> None:
        write_mnist(tmp_path / "m")
        words = ("--splits", "train=20", "--splits", "dev=4", "--quiet")
        result = invoke("prepare", tmp_path / "m", "--to", tmp_path / "m.h5", *words)
        assert result.exit_code == 0, result.output
        assert "train 20, dev 4, test 12; 10 classes; 6×5×1" in result.stdout

    def test_image_folders_are_resized_if_asked(self, tmp_path: Path, invoke: Any) -> None:
        folder = write_class_folders(tmp_path / "pets", count=20)
        write_image(folder / "cat" / "wide.png", size=(4, 8))
        to = ("--to", tmp_path / "p.h5", "--quiet")
        assert "4 × 8" in invoke("prepare", folder, *to).stderr
        result = invoke("prepare", folder, *to, "--size", 6)
        assert result.exit_code == 0, result.output
        assert LabelledImages(tmp_path / "p.h5").shape == (6, 6, 3)

    def test_bad_images_are_left_out_and_listed(self, tmp_path: Path, invoke: Any) -> None:
        folder = write_class_folders(tmp_path / "pets", count=20)
        (folder / "dog" / "3.png").write_bytes(b"broken")
        words = ("prepare", folder, "--to", tmp_path / "p.h5", "--quiet")
        strict = invoke(*words, "--strict")
        assert strict.exit_code == 1
        assert "dog/3.png: is not an image" in strict.stderr
        result = invoke(*words)
        assert result.exit_code == 0, result.output
        assert "images left out: 1" in result.stderr
        assert "dog/3.png" in result.stderr

    def test_check_lists_every_problem_and_writes_nothing(
        self, tmp_path: Path, invoke: Any
    ) -> None:
        folder = write_class_folders(tmp_path / "pets")
        (folder / "dog" / "3.png").write_bytes(b"broken")
        (folder / "emu").mkdir()
        result = invoke("prepare", folder, "--check", "--quiet")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[-1] == "2 problems"
        for word in ("emu", "3.png"):
            assert word in result.stdout
        (folder / "dog" / "3.png").unlink()
        (folder / "emu").rmdir()
        assert invoke("prepare", folder, "--check", "--quiet").stdout == "no problems\n"

    def test_scenes(self, tmp_path: Path, invoke: Any) -> None:
        sizes = ("--train", 20, "--dev", 4, "--test", 4, "--seed", 5, "--quiet")
        words = ("prepare", "scenes", "--labels", "count", "--to", tmp_path / "s.h5")
        result = invoke(*words, *sizes)
        assert result.exit_code == 0, result.output
        data = LabelledImages(tmp_path / "s.h5")
        assert data.classes == ["one", "two", "three", "four"]
        assert data.header["source"]["seed"] == 5

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("--min-count", "2"), "--min-count does not apply to labeled images"),
            (("--images", "."), "--images does not apply"),
            (("--train", "5"), "--train does not apply to labeled images"),
            (("--splits", "dev=names.txt"), "--splits dev=names.txt: of labeled images"),
            (("--splits", "dev"), "'dev' should be SPLIT=FILE"),
            ((), "say where to write it"),
        ],
    )
    def test_misuse(
        self, tmp_path: Path, fails: Callable[..., str], words: tuple[str, ...], message: str
    ) -> None:
        to = ("--to", tmp_path / "p.h5") if words else ()
        line = fails("prepare", write_class_folders(tmp_path / "p"), *to, *words, code=2)
        assert message in line

    def test_misuse_with_scenes_and_captions(
        self, tmp_path: Path, fails: Callable[..., str]
    ) -> None:
        to = ("--to", tmp_path / "s.h5")
        words = ("scenes", "--labels", "shape", "--strict")
        assert "--strict does not apply to labeled scenes" in fails("prepare", *words, *to, code=2)
        source = tmp_path / "a.token.txt"
        source.write_text("a.jpg#0\tA dog .\n")
        line = fails("prepare", source, "--splits", "dev=10", *to, code=2)
        assert "--splits dev=10: of captions it is a list's file" in line
        pets = write_class_folders(tmp_path / "pets")
        assert "come from one folder" in fails("prepare", pets, source, *to, code=2)

    @pytest.mark.parametrize("name", ["images", "pets/cat"])
    def test_a_folder_of_images_without_classes(
        self, tmp_path: Path, fails: Callable[..., str], name: str
    ) -> None:
        write_image(tmp_path / name / "1.png")
        line = fails("prepare", tmp_path / name, "--to", tmp_path / "x.h5")
        assert "holds no labeled images that are known" in line
        assert "of captioned images, name the captions file" in line


class TestInspect:
    def test_a_file(self, tmp_path: Path, invoke: Any) -> None:
        to = tmp_path / "c.h5"
        invoke("prepare", write_cifar(tmp_path), "--to", to, "--quiet")
        result = invoke("inspect", to)
        assert result.exit_code == 0, result.output
        for text in ("split dev", "10 images", "32 × 32 pixels, 3 channels", "airplane"):
            assert text in result.stdout
        document = json.loads(invoke("inspect", to, "--json").stdout)
        assert document["type"] == "labelled"
        assert document["classes"][:2] == ["airplane", "automobile"]
        assert document["splits"]["train"]["images"] == 90
        assert len(document["channel_mean"]) == 3

    def test_a_damaged_file(self, tmp_path: Path, fails: Callable[..., str], invoke: Any) -> None:
        to = tmp_path / "c.h5"
        invoke("prepare", write_cifar(tmp_path), "--to", to, "--quiet")
        to.write_bytes(to.read_bytes()[:5000])
        assert "c.h5" in fails("inspect", to)
