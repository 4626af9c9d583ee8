"""Images as people name them on a command line, and names that are not UTF-8 in what is written."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner, Result

from dlmie.cli import main
from dlmie.cli.output import ImageRun
from dlmie.data.captions.dataset import Captions
from dlmie.data.images import save_image
from dlmie.errors import DataError

ENCODER = ("--encoder", "tiny-imagenet", "--encoder-weights", "random")
LATIN = os.fsdecode(b"caf\xe9.png")  # as old archives unpack on Linux

Pipe = Callable[..., Result]


@pytest.fixture
def pipe(photographs: Path) -> Pipe:
    """Run a command with an image on its standard input."""

    def run(*words: object, content: bytes | None = None) -> Result:
        data = (photographs / "color.png").read_bytes() if content is None else content
        return CliRunner().invoke(main, [str(w) for w in words], input=data, prog_name="dlmie")

    return run


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    """A folder with a name that is not UTF-8, beside others that are only odd."""
    folder = tmp_path / "odd"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    try:
        for name in (LATIN, "日本語.png", "-dash.png", "a,b;c.png"):
            save_image(folder / name, pixels)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    return folder


class TestStandardInput:
    def test_classify(self, pipe: Pipe, photographs: Path, invoke: Any) -> None:
        result = pipe("classify", "-", *ENCODER, "--json")
        assert result.exit_code == 0, result.output
        (item,) = json.loads(result.stdout)
        assert item["image"] == "-"
        named = invoke("classify", photographs / "color.png", *ENCODER, "--json")
        assert item["top"] == json.loads(named.stdout)[0]["top"]

    def test_caption_beside_files(self, pipe: Pipe, run: Path, photographs: Path) -> None:
        result = pipe("caption", run, photographs / "color.png", "-", "-", "--json", "-q")
        assert result.exit_code == 0, result.output
        first, second = json.loads(result.stdout)  # named twice, it is read once
        assert (first["caption"], second["image"]) == (second["caption"], "-")

    def test_saliency(self, pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        result = pipe(
            "saliency", "-", "--encoder", "tiny-imagenet", "--encoder-weights", "random",
            "--method", "gradient", "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["output"] == "stdin-saliency.png"
        manifest = json.loads(Path("stdin-saliency.json").read_text())
        assert manifest["images"]["image"]["path"] is None

    @pytest.mark.parametrize(
        ("content", "message"), [(b"", "standard input is empty"), (b"text", "not an image")]
    )
    def test_faults(self, pipe: Pipe, content: bytes, message: str) -> None:
        result = pipe("classify", "-", *ENCODER, "-q", content=content)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


class TestNames:
    def test_addresses_stay_whole(self, fails: Any, run: Path) -> None:
        for command in (("caption", run), ("saliency",), ("dream",)):
            line = fails(*command, "https://example.org/a.jpg")
            assert "https://example.org/a.jpg: is an address" in line

    def test_another_form_of_a_name(self, photographs: Path, invoke: Any, fails: Any) -> None:
        result = invoke("classify", photographs / "COLOR.PNG", *ENCODER, "--json", "-q")
        assert json.loads(result.stdout)[0]["image"] == str(photographs / "color.png")
        assert "did you mean 'color.png'" in fails("saliency", photographs / "colour.png")

    def test_a_kind_that_cannot_be_read_is_named(self, tmp_path: Path, invoke: Any) -> None:
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
        for strict, code in (((), 0), (("--strict",), 1)):
            result = invoke("classify", tmp_path, *ENCODER, *strict)
            assert result.exit_code == code
            assert "IMG_1.HEIC: cannot be read by Pillow alone: pip install" in result.stderr

    @pytest.mark.filterwarnings("always::dlmie.data.images.ImageWarning")
    def test_warnings_about_images_are_lines(self, tmp_path: Path, invoke: Any) -> None:
        path = tmp_path / "a.png"
        PIL.Image.new("RGB", (8, 8)).save(path, icc_profile=b"broken")
        result = invoke("classify", path, *ENCODER, "-q")
        assert result.exit_code == 0, result.output
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"{path}: its color profile cannot be used (")


class TestNamesThatAreNotUtf8:
    def check(self, written: str) -> None:
        assert written.encode("utf-8")
        assert written.endswith("caf\\xe9.png")

    def test_tables_and_text(self, odd_names: Path, run: Path, tmp_path: Path, invoke: Any) -> None:
        out = tmp_path / "captions.csv"
        result = invoke("caption", run, odd_names, "--csv", "-o", out)
        assert result.exit_code == 0, result.output
        assert result.stderr.count("not UTF-8") == 1
        with open(out, encoding="utf-8-sig", newline="") as file:
            names = [row["image"] for row in csv.DictReader(file)]
        assert len(names) == 4
        self.check(next(name for name in names if "caf" in name))
        result = invoke("caption", run, odd_names, "-q")
        assert "caf\\xe9.png: " in result.stdout

    def test_json(self, odd_names: Path, run: Path, tmp_path: Path, invoke: Any) -> None:
        out = tmp_path / "captions.json"
        assert invoke("caption", run, odd_names, "--json", "-o", out, "-q").exit_code == 0
        items = json.loads(out.read_text("utf-8"))
        assert {item["image"] for item in items} == {str(path) for path in odd_names.iterdir()}

    def test_errors(self, odd_names: Path, run: Path, invoke: Any) -> None:
        (odd_names / LATIN).write_bytes(b"text")
        result = invoke("caption", run, odd_names)
        assert result.exit_code == 0, result.output
        assert "caf\\xe9.png: is not an image" in result.stderr

    def test_figures_and_their_manifests(
        self, odd_names: Path, tmp_path: Path, invoke: Any
    ) -> None:
        out = tmp_path / LATIN.replace("caf", "seen")
        words = ("saliency", odd_names / LATIN, *ENCODER, "--method", "gradient", "-o", out)
        result = invoke(*words, "--json")
        assert result.exit_code == 0, result.output
        manifest = json.loads(out.with_suffix(".json").read_text("utf-8"))
        assert manifest["images"]["image"]["path"] == str(odd_names / LATIN)

    def test_paths_in_a_prepared_file(self, tmp_path: Path, invoke: Any) -> None:
        folder = tmp_path / os.fsdecode(b"m\xfcnchen")
        try:
            for number in range(3):
                save_image(
                    folder / "images" / f"{number}.png", np.full((4, 4, 3), number, np.uint8)
                )
        except OSError:
            pytest.skip("this file system takes UTF-8 alone")
        captions = folder / os.fsdecode(b"c\xe9.json")
        captions.write_text(json.dumps({f"{number}.png": ["a dog"] for number in range(3)}))
        names = folder / "train.txt"
        names.write_text("0.png\n1.png\n2.png\n")
        to = tmp_path / "data.h5"
        result = invoke(
            "prepare", captions, "--to", to, "--store", "paths", "--min-count", 1, "--json",
            "--size", 4, "--splits", f"train={names}",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        train = Captions(to)["train"]
        assert train.load_images([2])[0, 0, 0, 0] == 2
        assert train.paths[0] == folder / "images" / "0.png"


def test_a_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from dlmie.cli import images

    monkeypatch.setattr(images.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(DataError, match="standard input is a terminal"):
        images.read_standard_input()


def test_odd_names_are_counted(odd_names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dlmie.cli.console import Console

    ImageRun(Console(), [str(odd_names)], strict=False)
    assert capsys.readouterr().err.startswith("1 file name is not UTF-8")
