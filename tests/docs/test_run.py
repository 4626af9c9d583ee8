"""Every command and every Python example of the README and the guide runs, on tiny files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import ROOT, SET_UP, blocks, make_world, words

pytestmark = pytest.mark.slow

RUN = [ROOT / "README.md", ROOT / "docs" / "guide.md"]

#: What makes a command small: options added to a verb, numbers of Python examples replaced.
SMALLER_COMMANDS: dict[str, str] = {
    "demo": "--train 24 --dev 4 --test 4 --epochs 1",
    "train": "--epochs 1",
    "train --resume": "--epochs 2",
    "train --overfit": "--overfit 2",
    "saliency": "--samples 2",
    "fool": "--steps 10 --confidence 0.1",
    "visualize": "--steps 2",
    "invert": "--steps 2",
    "dream": "--steps 1 --octaves 1 --longer 160",
    "style": "--steps 2 --octaves 1 --longer 96",
}
SMALLER_PYTHON = {
    r"(dlmie\.train\(.*)epochs=\d+": r"\1epochs=1",
    r"(dlmie\.resume\(.*)epochs=\d+": r"\1epochs=2",
    r"steps=\d+": "steps=2",
    r"samples=\d+": "samples=2",
    r"octaves=\d+": "octaves=1",
}


@pytest.fixture
def world(tmp_path: Path) -> Path:
    make_world(tmp_path)
    return tmp_path


def environment() -> dict[str, str]:
    """The environment of the commands: this Python's programs first, warnings as errors."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONWARNINGS": "error"}


def run(command: str | list[str], folder: Path) -> None:
    result = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{command}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    assert result.returncode == 0, said
    assert "Traceback" not in result.stderr, said


def smaller(command: str) -> str:
    line = words(command)
    for length in (3, 2):  # "dlmie train --resume" before "dlmie train"; what is said last counts
        options = SMALLER_COMMANDS.get(" ".join(line[1:length]))
        if line[0] == "dlmie" and options is not None:
            return f"{command.split('#')[0]} {options}"
    if line[0] == "python" and line[1].startswith("examples/"):
        return command.replace(line[1], str(ROOT / line[1]), 1)
    return command


@pytest.mark.timeout(2400)  # six processor minutes
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_page_runs_from_top_to_bottom(page: Path, world: Path) -> None:
    """In the order of the page: what a command made is there for those below it."""
    everything = [*blocks(page, "console"), *blocks(page, "python")]
    if "demo/run" in page.read_text(encoding="utf-8"):  # what `make demo` leaves
        run(smaller("dlmie demo --to demo"), world)
    for block in sorted(everything, key=lambda block: block.line):
        if block.language == "python":
            text = block.text
            for pattern, number in SMALLER_PYTHON.items():
                text = re.sub(pattern, number, text)
            run([sys.executable, "-c", text], world)
            continue
        for command in block.commands:
            if not command.startswith(SET_UP):
                run(smaller(command), world)
