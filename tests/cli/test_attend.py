"""attend and report: figures and a page of a small captioner that attends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from cli_encoder import ENCODER

from dlmie.captioning.reports import choose
from dlmie.cli.commands.attend import figure_paths
from dlmie.data.images import load_image

SHORT = ("--min-length", 3, "--max-length", 5, "--beam", 2)
GOOD = {"color", "gray", "cmyk", "alpha", "single", "deep", "animated"}


@pytest.fixture(scope="module")
def attending(workplace: Path, scenes: Path, invoke: Any) -> Path:
    """A run of a captioner that attends."""
    path = workplace / "attending"
    sizes = ("--embedding", 8, "--hidden", 12, "--attention", 8, "--batch", 32, "--epochs", 2)
    options = ("--model", "show-attend-tell", "--lr", 0.01, *sizes, *ENCODER)
    result = invoke("train", scenes, "--to", path, *options, "--quiet")
    assert result.exit_code == 0, result.output
    return path


class TestAttend:
    def test_a_folder(
        self, attending: Path, photographs: Path, tmp_path: Path, invoke: Any
    ) -> None:
        result = invoke(
            "attend", attending, photographs, "-o", tmp_path / "figures", "--json", *SHORT
        )
        assert result.exit_code == 0, result.output
        items = [item for item in json.loads(result.stdout) if "error" not in item]
        assert {Path(item["image"]).stem for item in items} == GOOD
        for item in items:
            figure = Path(item["figure"])
            assert figure.name == f"{Path(item['image']).stem}-attention.png"
            assert load_image(figure).shape[1] > 300
            manifest = json.loads(figure.with_suffix(".json").read_text())
            assert manifest["results"]["words"] == item["words"]
            assert 3 <= len(item["words"]) <= 5
            assert item["caption"].split() == [word["word"] for word in item["words"]]
            assert item["grid"] == [8, 8]
        assert "4 of 11 images could not be read" in result.stderr

    def test_says_what_caption_says(self, attending: Path, photographs: Path, invoke: Any) -> None:
        path = photographs / "color.png"
        said = json.loads(invoke("caption", attending, path, "--json", *SHORT).stdout)[0]
        out = path.with_name("figure.svg")
        drawn = invoke("attend", attending, path, "-o", out, "--json", *SHORT)
        item = json.loads(drawn.stdout)[0]
        assert item["caption"] == said["caption"]
        assert item["log_probability"] == pytest.approx(said["log_probability"], rel=1e-5)
        assert out.read_text().startswith("<?xml")
        out.unlink()
        out.with_suffix(".json").unlink()

    def test_a_given_sentence(
        self, attending: Path, photographs: Path, tmp_path: Path, invoke: Any
    ) -> None:
        path, out = photographs / "gray.png", tmp_path / "a.gif"
        sentence = "A red qwerty, left of a circle!"
        result = invoke("attend", attending, path, "-o", out, "--json", "--say", sentence)
        assert result.exit_code == 0, result.output
        item = json.loads(result.stdout)[0]
        assert item["caption"] == "a red <unk> left of a circle"
        assert "does not know: qwerty" in result.stderr
        with PIL.Image.open(out) as animation:
            assert animation.n_frames == 8  # type: ignore[attr-defined]

    def test_drawn_again_from_its_manifest(
        self, attending: Path, photographs: Path, tmp_path: Path, invoke: Any
    ) -> None:
        for more in (SHORT, ("--say", "a red star")):
            path = tmp_path / "a.png"
            invoke("attend", attending, photographs / "color.png", "-o", path, *more)
            manifest = json.loads(path.with_suffix(".json").read_text())
            again = tmp_path / "again.png"
            result = invoke("reproduce", path, "-o", again)
            assert result.exit_code == 0, result.output
            second = json.loads(again.with_suffix(".json").read_text())
            assert second["arguments"] == manifest["arguments"]
            assert second["results"]["caption"] == manifest["results"]["caption"]
            difference = load_image(again).astype(int) - load_image(path)
            assert np.abs(difference).max() <= 2

    def test_another_captioner_does_not_draw_it_again(
        self, attending: Path, photographs: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        path = tmp_path / "a.png"
        invoke("attend", attending, photographs / "color.png", "-o", path, *SHORT)
        manifest = json.loads(path.with_suffix(".json").read_text())
        (member,) = manifest["network"]["captioner"]
        member["sha256"] = "0" * 64
        path.with_suffix(".json").write_text(json.dumps(manifest))
        line = fails("reproduce", path, "-o", tmp_path / "b.png")
        assert "was made with another captioner" in line
        manifest["network"]["captioner"] = [member["source"]]  # as version 0.1 wrote it
        manifest["arguments"]["columns"] = "x"
        path.with_suffix(".json").write_text(json.dumps(manifest))
        line = fails("reproduce", path, "-o", tmp_path / "b.png")
        assert 'arguments.columns must be a whole number, at least 1, not "x"' in line

    def test_layout(self, attending: Path, photographs: Path, tmp_path: Path, invoke: Any) -> None:
        sizes = []
        for number, options in enumerate((("--columns", 2), ("--layout", "strip"))):
            path = tmp_path / f"{number}.png"
            more = ("--upsampling", "block", "--pixels", 64, "--limit", 0.5, *SHORT)
            invoke("attend", attending, photographs / "color.png", "-o", path, *options, *more)
            sizes.append(load_image(path).shape)
        assert sizes[0][1] < sizes[1][1]
        assert sizes[0][0] > sizes[1][0]

    def test_bad_input(
        self, run: Path, attending: Path, photographs: Path, tmp_path: Path, fails: Any
    ) -> None:
        image = photographs / "color.png"
        assert "show-attend-tell" in fails("attend", run, image)
        assert "bad-empty.png" in fails("attend", attending, photographs / "bad-empty.png")
        line = fails("attend", attending, photographs, "-o", tmp_path / "a.png", code=2)
        assert "name a folder" in line
        line = fails("attend", attending, image, "-o", "a.png", "--format", "gif", code=2)
        assert "do not agree" in line
        assert "sentence" in fails("attend", attending, image, "--say", "!!")
        assert "--upsampling" in fails("attend", attending, image, "--upsampling", "x", code=2)

    def test_no_two_figures_in_one_place(self) -> None:
        images = [Path("a/dog.jpg"), Path("b/dog.jpg"), Path("dog-2.png"), Path("dog.png")]
        names = [path.name for path in figure_paths(images, "out", "pdf")]
        assert len(set(names)) == 4
        assert names[:2] == ["dog-attention.pdf", "dog-attention-2.pdf"]

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.pdf", "a.svg", "a.gif"])
    def test_the_name_of_a_figure_is_no_folder(self, name: str) -> None:
        assert figure_paths([Path("dog.jpg")], f"out/{name}", None) == [Path("out") / name]


class TestReport:
    def test_page(self, attending: Path, tmp_path: Path, invoke: Any) -> None:
        path = tmp_path / "page" / "report.html"
        result = invoke("report", attending, "--split", "dev", "-o", path, "--json", *SHORT)
        assert result.exit_code == 0, result.output
        document = json.loads(result.stdout)
        assert document["report"] == str(path)
        assert document["bytes"] == path.stat().st_size < 200_000
        evaluated = json.loads(invoke("evaluate", attending, "--json", *SHORT).stdout)
        assert document["bleu_1"] == evaluated["bleu_1"]
        assert {"pointing", "pointing_chance", "pointing_shuffled"} <= set(evaluated)
        assert 0 <= evaluated["truth"] <= evaluated["truth_claims"] <= 1
        assert document["truth"] == evaluated["truth"]
        log = [json.loads(line) for line in (attending / "log.jsonl").read_text().splitlines()]
        assert all("truth" in line and "truth_claims" in line for line in log if "bleu_4" in line)
        html = path.read_text(encoding="utf-8")
        assert "true claims" in html
        assert evaluated["protocol"]["decoding"] in html
        assert "Learning curves" in html
        assert html.count("<polyline") >= 3
        data = _data(html)
        assert len(data["items"]) == 8
        assert data["columns"][0] == ["cider_d", "CIDEr-D"]
        for item in data["items"]:
            assert item["grid"] == [8, 8]
            assert 3 <= len(item["words"]) <= 5
            assert len(item["references"]) == 5
        assert not list(path.parent.glob("*.part"))

    def test_side_by_side_tells_where_they_looked(self, attending: Path, invoke: Any) -> None:
        result = invoke("evaluate", attending, attending, "--quiet", *SHORT)
        for score in ("truth", "pointing"):
            lines = [line for line in result.stdout.splitlines() if f": {score}" in line]
            assert len(lines) == 2
            assert lines[0].startswith(f"{attending}: {score}")

    def test_gallery_of_some(self, attending: Path, tmp_path: Path, invoke: Any) -> None:
        path = tmp_path / "report.html"
        invoke("report", attending, "-o", path, "--gallery", 3, "--extremes", 1, *SHORT)
        data = _data(path.read_text(encoding="utf-8"))
        assert len(data["items"]) == 3
        assert len(data["best"]) == len(data["worst"]) == 1

    def test_a_captioner_without_attention(
        self, run: Path, tmp_path: Path, invoke: Any, fails: Any
    ) -> None:
        path = tmp_path / "report.html"
        result = invoke("report", run, "-o", path, "--quiet")
        assert result.exit_code == 0, result.output
        data = _data(path.read_text(encoding="utf-8"))
        assert data["colors"] is None
        assert "alphas" not in data["items"][0]
        assert "no split 'tset'" in fails("report", run, "--split", "tset")


def _data(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


def test_some_are_chosen_from_best_to_worst() -> None:
    ranks = np.random.default_rng(0).random(100)
    chosen = choose(ranks, 5)
    assert chosen == sorted(chosen)
    assert len(chosen) == 5
    assert {int(ranks.argmin()), int(ranks.argmax())} <= set(chosen)
    assert choose(ranks, None) == choose(ranks, 100) == list(range(100))
    assert len(choose(ranks, 1)) == 1
