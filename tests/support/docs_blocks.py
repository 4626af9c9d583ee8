"""Fenced blocks of the documentation, and a small world in which its commands run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

#: Beginnings of commands that set a machine up; they are not run in tests (.ci/run does).
SET_UP = (
    *("make ", "git ", "cd ", "source ", "python3 -m venv", ".venv/bin/", ".ci/run"),
    *("pip install", "pre-commit"),
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its page, the line it begins at, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The lines behind ``$ ``, with those that continue them; what they print is left out."""
        found: list[str] = []
        goes_on = False
        for line in self.text.splitlines():
            if goes_on:
                found[-1] += "\n" + line
            elif line.startswith("$ "):
                found.append(line[2:])
            goes_on = (goes_on or line.startswith("$ ")) and line.endswith("\\")
        return found


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a page that are in a language."""
    found, begin, kind = [], 0, None
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fence = re.fullmatch(r"\s*```(\w*)\s*", line)
        if fence is None:
            continue
        if kind is None:
            begin, kind = number, fence[1]
            continue
        if kind == language:
            found.append(Block(page, begin, kind, "\n".join(lines[begin : number - 1])))
        kind = None
    assert kind is None, f"{page.name}: a fenced block does not end"
    return found


def words(command: str) -> list[str]:
    """A command's words, as the shell splits them, without comments."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


def make_world(folder: Path) -> None:
    """Files under the names that the documentation uses, tiny, so that its commands run fast.

    A Flickr8k of 20 drawn scenes, three photographs of scikit-image, captions to be scored.
    """
    import json

    import skimage.data

    from dlmie.data.images import save_image
    from dlmie.data.scenes import scene_records

    images = folder / "Flicker8k_Dataset"
    images.mkdir()
    lines: list[str] = []
    lists: dict[str, list[str]] = {}
    references: dict[str, list[str]] = {}
    for record in scene_records({"train": 12, "dev": 4, "test": 4}, size=64):
        name = f"{record.name}.jpg"
        save_image(images / name, record.image())
        lines += [f"{name}#{k}\t{text}" for k, text in enumerate(record.captions)]
        lists.setdefault(record.split, []).append(name)
        references[name] = record.captions
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for split, names in lists.items():
        path = folder / f"Flickr_8k.{split}Images.txt"
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "captions.json").write_text(
        json.dumps({name: texts[0] for name, texts in references.items()}), encoding="utf-8"
    )
    (folder / "references.json").write_text(json.dumps(references), encoding="utf-8")
    photographs = {
        "dog.jpg": skimage.data.chelsea(),
        "photo.jpg": skimage.data.coffee(),
        "sky.jpg": skimage.data.rocket(),
        "starry.jpg": skimage.data.hubble_deep_field()[:300, :300],
    }
    (folder / "photos").mkdir()
    for name, pixels in photographs.items():
        save_image(folder / name, pixels)
        save_image(folder / "photos" / name, np.ascontiguousarray(pixels[::2, ::2]))
