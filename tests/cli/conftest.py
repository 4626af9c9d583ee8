"""A tiny data set and a tiny trained captioner that the tests of all commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from cli_encoder import ENCODER
from click.testing import CliRunner, Result

from dlmie.cli import main

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    """Run a command in this process: ``invoke("score", path, …)``."""

    def run(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words], prog_name="dlmie")

    return run


@pytest.fixture(scope="session")
def fails(invoke: Invoke) -> Callable[..., str]:
    """Run a command that must fail with one line; returns the line.

    ``fails("train", code=2)`` expects misuse.
    """

    def run(*words: object, code: int = 1) -> str:
        result = invoke(*words, "--quiet")
        assert result.exit_code == code, result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("dlmie"), lines
        assert "Traceback" not in result.output
        assert "unexpected" not in lines[0]
        return lines[0]

    return run


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def scenes(workplace: Path, invoke: Invoke) -> Path:
    """A prepared file of a few scenes."""
    path = workplace / "scenes.h5"
    counts = ("--train", 48, "--dev", 8, "--test", 8)
    result = invoke("prepare", "scenes", "--to", path, *counts, "--quiet")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def run(workplace: Path, scenes: Path, invoke: Invoke) -> Path:
    """The folder of a captioner that was trained for two epochs."""
    path = workplace / "run"
    model = ("--embedding", 16, "--hidden", 24, "--lr", 0.01, "--batch", 32, "--epochs", 2)
    result = invoke("train", scenes, "--to", path, *ENCODER, *model, "--quiet")
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def photographs(workplace: Path) -> Path:
    """A folder with images of every kind that can be captioned, and four that cannot."""
    folder = workplace / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(color)
    picture.save(folder / "color.png")
    picture.convert("L").save(folder / "gray.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.resize((1, 1)).save(folder / "single.png")
    deep = rng.integers(0, 2**16, (30, 20)).astype(np.uint16)
    PIL.Image.fromarray(deep).save(folder / "deep.png")
    picture.save(folder / "animated.gif", save_all=True, append_images=[picture, picture])
    (folder / "bad-empty.png").write_bytes(b"")
    (folder / "bad-noise.jpg").write_bytes(b"\xff\xd8\xff not an image")
    whole = (folder / "color.png").read_bytes()
    (folder / "bad-truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bad-huge.png").write_bytes(huge_png(50_000, 50_000))
    return folder


def huge_png(width: int, height: int) -> bytes:
    """A valid beginning of a PNG file that claims to be enormous."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")
