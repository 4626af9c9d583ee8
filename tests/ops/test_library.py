"""How the kernel library is built: the user's own compiler flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlmie.errors import CompilerError
from dlmie.ops.runtime import building, library

AVX2 = "-march=x86-64-v3 -DNAME='two words'"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What the compiler and the linker are called with; nothing is compiled."""
    called: list[list[str]] = []

    def note(commands: list[list[str]]) -> None:
        called.extend(commands)
        for command in commands:
            Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(building, "run_all", note)
    monkeypatch.setattr(library, "cache_folder", lambda: tmp_path)
    return called


def test_flags_of_the_user_come_last(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLMIE_CFLAGS", AVX2)
    library.compiled()
    *compiled, _ = commands
    for command in compiled:
        position = command.index("-march=x86-64-v3")
        assert command[position + 1] == "-DNAME=two words"
        assert "-march=native" not in command[position:]


def test_other_flags_make_another_library(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLMIE_CFLAGS", raising=False)
    plain = library.compiled()
    monkeypatch.setenv("DLMIE_CFLAGS", "")
    assert library.compiled() == plain
    monkeypatch.setenv("DLMIE_CFLAGS", AVX2)
    own = library.compiled()
    assert own != plain
    before = len(commands)
    assert library.compiled() == own
    assert len(commands) == before  # found in the cache


def test_flags_that_do_not_compile_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "empty.c"
    source.write_text("int nothing(void) { return 0; }\n")
    monkeypatch.setattr(building, "sources", lambda: [source])
    monkeypatch.setattr(library, "cache_folder", lambda: tmp_path)
    monkeypatch.setenv("DLMIE_CFLAGS", "-march=no-such-processor")
    with pytest.raises(CompilerError, match="DLMIE_CFLAGS is -march=no-such-processor"):
        library.compiled()
