"""The HTML report: complete in itself, safe, and alive in a real browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from dlmie.captioning.metrics import score
from dlmie.visualize.figures.line_chart import line_chart, ticks
from dlmie.visualize.figures.report_page import Example, build_page

WORDS = ("a", "red", "star", "beside", "a", "moon")
EVIL = "</script><script>document.title='broken'</script><!-- & \"$data\" ${x}"


def example(number: int, alphas: np.ndarray | None) -> Example:
    rng = np.random.default_rng(number)
    return Example(
        name=f"picture-{number:03d}.png" if number else EVIL,
        image=rng.integers(0, 256, (90, 120, 3), np.uint8),
        words=[*WORDS, f"number{number}"],
        references=[f"A star and a moon, number {number}.", EVIL if number == 1 else "Näher."],
        scores={"cider_d": float(number % 7), "rouge_l": 0.5},
        alphas=alphas,
        gates=None if alphas is None else np.full(len(alphas), 0.75),
    )


def page(
    count: int = 130, *, attention: bool = True, more: Mapping[str, float | None] | None = None
) -> str:
    alphas = np.full((7, 3, 4), 0.01, np.float32)
    for word in range(7):
        alphas[word, word % 3, word % 4] = 0.2 + 0.1 * word
    scores = score(["a star"] * 3, [["a red star"]] * 3, split="dev", decoding="beam 3")
    return build_page(
        title="runs/<star> on dev",
        subtitle="show-attend-tell",
        scores={**scores.to_json(), **(more or {})},
        protocol_line=scores.protocol_line,
        examples=[example(i, alphas if attention else None) for i in range(count)],
        rank_by="cider_d",
        records=[
            {"step": 50, "batch_loss": 4.0},
            {"epoch": 1, "step": 100, "loss": 3.0, "dev_loss": 3.1, "bleu_4": 0.1},
            {"epoch": 2, "step": 200, "loss": 2.5, "dev_loss": 2.9, "bleu_4": 0.2},
        ],
        facts={"command": "dlmie report <runs>"},
    )


class Links(HTMLParser):
    """Collects everything that a page would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def test_nothing_is_fetched() -> None:
    html = page(3)
    assert all(link.startswith(("data:", "#")) for link in Links(html).found)
    assert "default-src 'none'" in html
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttp|import\(", html)


def test_links_lead_to_places_of_the_page() -> None:
    html = page(3)
    places = [link[1:] for link in Links(html).found if link.startswith("#")]
    assert len(places) == 5
    assert all(f'id="{place}"' in html for place in places)


def test_where_attention_rests_stands_beside_the_pointing_score() -> None:
    told = {
        "pointing": 0.625, "pointing_chance": 0.25, "pointing_brightest": 0.75,
        "attention_entropy": 0.5, "naming": 0.875,
    }  # fmt: skip
    html = page(3, more=told)
    for said in (
        "<dt>pointing</dt><dd>0.6250",
        "<small>chance 0.2500</small>",
        "<small>brightest cell on the thing 0.7500</small>",
        "<small>entropy, 1 if even 0.5000</small>",
        "<dt>named things that are there</dt><dd>0.8750",
    ):
        assert said in html
    assert "named things" not in page(3, more={**told, "naming": None})


def test_the_size_of_the_page_stands_in_its_place_alone() -> None:
    html = build_page(
        title="$size", subtitle="$size {size}", scores={"protocol": {"data": "$size"}},
        protocol_line="$size", examples=[], rank_by="cider_d", facts={"command": "dlmie $size \0"},
    )  # fmt: skip
    assert html.count("$size") == 6
    assert re.search(r"This page is \d+\.\d MB large", html)


def test_text_cannot_leave_its_place() -> None:
    html = page(3)
    assert html.count("<script") == html.count("</script>") == 2
    assert "runs/&lt;star&gt; on dev" in html
    assert "dlmie report &lt;runs&gt;" in html
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    data = json.loads(found[1])
    assert data["items"][0]["name"] == EVIL
    assert data["items"][1]["references"][1] == EVIL


def test_photographs_and_maps_are_small() -> None:
    found = re.search(r'id="data">(.*?)</script>', page(2))
    assert found is not None
    item = json.loads(found[1])["items"][0]
    import PIL.Image

    image = PIL.Image.open(io.BytesIO(base64.b64decode(item["photo"])))
    assert image.format == "JPEG"
    assert list(image.size) == item["size"] == [120, 90]
    levels = np.frombuffer(base64.b64decode(item["alphas"]), np.uint8).reshape(7, 3, 4)
    assert levels[6, 0, 2] == 255  # the highest of the caption
    assert levels[0, 0, 0] == 64  # 0.2 / 0.8 of it
    assert item["peak"] == pytest.approx(0.8)


def test_the_page_says_its_size() -> None:
    html = page(3)
    found = re.search(r"This page is (\d+\.\d) MB large", html)
    assert found is not None
    assert float(found[1]) == pytest.approx(len(html.encode()) / 1e6, abs=0.06)


def test_best_and_worst_are_ranked() -> None:
    found = re.search(r'id="data">(.*?)</script>', page(30))
    assert found is not None
    data = json.loads(found[1])
    ranks = [data["items"][i]["scores"][0] for i in data["best"]]
    assert ranks == sorted(ranks, reverse=True)
    assert len(data["best"]) == len(data["worst"]) == 10
    assert min(ranks) >= max(data["items"][i]["scores"][0] for i in data["worst"])


@pytest.mark.parametrize(
    ("low", "high", "count", "whole"),
    [(0, 1, 5, False), (0.13, 0.58, 5, False), (1, 30, 8, True), (2, 2, 5, False), (1, 2, 8, True)],
)
def test_ticks_span_and_are_few(low: float, high: float, count: int, whole: bool) -> None:
    marks = ticks(low, high, count, whole)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 2 <= len(marks) <= count + 2
    assert not whole or all(mark == int(mark) for mark in marks)


def test_chart_leaves_out_what_is_not_finite() -> None:
    svg = line_chart(
        {"a<b": [(1, 1.0), (2, float("nan")), (3, 2.0)], "none": [(1, float("inf"))]},
        x_label="epoch",
        description='"quoted"',
    )
    assert svg.count("<circle") == 2
    assert "nan" not in svg
    assert "a&lt;b" in svg


# -- in a browser ---------------------------------------------------------------------------------

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--enable-logging=stderr"),
)


@cache
def chromium() -> str:
    """The browser; a command of its name may be there and only tell where to get it."""
    for name in ("chromium", "chromium-browser"):
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    pytest.skip("needs chromium (apt-get install chromium)")


def browse(html: str, script: str, folder: Path) -> Any:
    """Open a page from disk, run a script in it, give back what its function returned.

    Anything that the browser's console says is an error.
    """
    probe = (
        "<script>document.body.insertAdjacentHTML('beforeend', '<pre id=probe></pre>');"
        f"document.getElementById('probe').textContent = encodeURIComponent("
        f"JSON.stringify((() => {{{script}}})()));"
        "</script></body>"
    )
    path = folder / "page.html"
    path.write_text(html.replace("</body>", probe), encoding="utf-8")
    done = subprocess.run(
        [chromium(), *_FLAGS, f"--user-data-dir={folder}/profile", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r'<pre id="probe">([^<]+)</pre>', done.stdout)
    assert found is not None, done.stderr
    return json.loads(unquote(found[1]))


def test_browser_shows_searches_and_sorts(tmp_path: Path) -> None:
    script = """
      const names = () => [...document.querySelectorAll("#all .name")].map((e) => e.textContent);
      const count = () => document.getElementById("count").textContent;
      const set = (id, value, event) => {
        document.getElementById(id).value = value;
        document.getElementById(id).dispatchEvent(new Event(event));
      };
      const seen = { title: document.title, first: names().length, count: count() };
      seen.best = document.querySelectorAll("#best .card").length;
      document.getElementById("more").click();
      document.getElementById("more").click();
      seen.every = names().length;
      seen.hidden = document.getElementById("more").hidden;
      set("search", "MOON number12", "input");
      seen.found = names();
      seen.foundCount = count();
      set("search", "no such word", "input");
      seen.none = count();
      set("search", "", "input");
      set("sort", 1, "change");
      const cider = () => [...document.querySelectorAll("#all .numbers dd:nth-of-type(1)")]
        .map((e) => Number(e.textContent));
      seen.high = cider();
      document.getElementById("reverse").click();
      seen.low = cider();
      seen.reference = document.querySelector("#best .references").textContent;
      return seen;
    """
    seen = browse(page(), script, tmp_path)
    assert seen["title"] == "runs/<star> on dev"  # nothing in the data has changed it
    assert (seen["first"], seen["every"], seen["hidden"]) == (60, 130, True)
    assert seen["count"] == "130 of 130 images"
    assert seen["best"] == 10
    assert len(seen["found"]) == 11  # 12 and 120 to 129
    assert seen["found"][0] == "picture-012.png"
    assert seen["foundCount"] == "11 of 130 images"
    assert seen["none"] == "0 of 130 images"
    assert seen["high"] == sorted(seen["high"], reverse=True)
    assert seen["low"] == sorted(seen["low"])
    assert seen["high"][0] == 6
    assert seen["low"][0] == 0
    assert "number" in seen["reference"]


def test_browser_shows_attention_at_the_right_place(tmp_path: Path) -> None:
    script = """
      const words = [...document.querySelectorAll("#all .card")[2].querySelectorAll(".word")];
      const brightest = () => {
        const canvas = document.querySelector("canvas");
        if (!canvas) return null;
        const { width, height } = canvas;
        const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        let best = [-1, 0, 0];
        for (let i = 0; i < width * height; i++) {
          const light = data[4 * i] + data[4 * i + 1] + data[4 * i + 2];
          if (light > best[0]) best = [light, i % width, Math.floor(i / width)];
        }
        const n = document.querySelectorAll("canvas").length;
        return { light: best[0], x: best[1] / width, y: best[2] / height, n };
      };
      const seen = { before: brightest(), tag: words[0].tagName };
      words[5].dispatchEvent(new MouseEvent("mouseenter"));
      seen.hover = brightest();
      seen.said = document.querySelector(".looked:not(:empty)").textContent;
      words[5].dispatchEvent(new MouseEvent("mouseleave"));
      seen.after = brightest();
      words[2].focus();
      seen.focus = brightest();
      const press = (key) => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", { key, bubbles: true }));
      press("ArrowRight");
      seen.right = brightest();
      seen.active = document.activeElement.textContent;
      press("Escape");
      seen.escape = brightest();
      return seen;
    """
    seen = browse(page(12), script, tmp_path)
    assert seen["tag"] == "BUTTON"  # can be reached with the keyboard
    assert seen["before"] is seen["after"] is seen["escape"] is None
    for when, word in (("hover", 5), ("focus", 2), ("right", 3)):
        row, column = word % 3, word % 4
        assert int(seen[when]["y"] * 3) == row, when
        assert int(seen[when]["x"] * 4) == column, when
        assert seen[when]["n"] == 1
    assert seen["hover"]["light"] > seen["focus"]["light"]  # one scale for all words
    assert seen["said"] == "up to 70.0 % in a cell (scale to 80.0 %), β 0.75"
    assert seen["active"] == "beside"


def test_browser_shows_a_captioner_without_attention(tmp_path: Path) -> None:
    script = """
      return { buttons: document.querySelectorAll("button.word").length,
               words: document.querySelector("#best .caption").textContent.trim() };
    """
    seen = browse(page(3, attention=False), script, tmp_path)
    assert seen["buttons"] == 0
    assert seen["words"].startswith("a red star beside a moon")
