"""Kernel libraries of an installation: which one is used, and when none is."""

from __future__ import annotations

import ctypes
import json
import platform
import shutil
import sys
from pathlib import Path

import pytest

from dlmie.errors import CompilerError
from dlmie.ops.runtime import building, library, prebuilt

OLD = prebuilt.LEVELS[2].features
AVX2 = prebuilt.LEVELS[1].features
AVX512 = prebuilt.LEVELS[0].features


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation on x86-64 with libraries of all its levels, which are empty files."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    levels = [level for level in prebuilt.LEVELS if level.machine == "x86_64"]
    for level in levels:
        (tmp_path / level.file).touch()
    describe(tmp_path, sources=building.fingerprint(), levels=[level.name for level in levels])
    return tmp_path


def describe(folder: Path, **manifest: object) -> None:
    (folder / prebuilt.MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("features", "level"),
    [
        (AVX512 | {"amx_tile"}, "x86-64-v4"),
        (AVX512 - {"avx512vl"}, "x86-64-v3"),
        (AVX2, "x86-64-v3"),
        (OLD, "x86-64-v2"),
        (OLD - {"ssse3"}, None),
    ],
)
def test_the_processor_decides(
    features: frozenset[str], level: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "features", lambda: features)
    found = prebuilt.find(folder)
    assert found == (None if level is None else folder / f"libdlmie-{level}{building.SUFFIX}")


def test_a_level_that_is_not_there_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "features", lambda: AVX512)
    describe(folder, sources=building.fingerprint(), levels=["x86-64-v3", "x86-64-v2"])
    found = prebuilt.find(folder)
    assert found is not None
    assert found.name == prebuilt.LEVELS[1].file
    found.unlink()
    assert prebuilt.find(folder) == folder / prebuilt.LEVELS[2].file


def test_of_other_sources_or_another_machine_none_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "features", lambda: AVX512)
    assert prebuilt.find(folder) is not None
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert prebuilt.find(folder) is None
    monkeypatch.undo()
    describe(folder, sources="0" * 64, levels=["x86-64-v2"])
    assert prebuilt.find(folder) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sources": 1}'])
def test_a_damaged_manifest_is_none(content: str, folder: Path) -> None:
    (folder / prebuilt.MANIFEST).write_text(content)
    assert prebuilt.find(folder) is None


@pytest.fixture
def whole() -> Path:
    """A library that can be loaded."""
    return library.build()


@pytest.fixture
def installed(whole: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An installation whose library is this path; another is compiled as ``compiled.so``."""
    for variable in ("CC", "DLMIE_CFLAGS", "PYTENSOR_FLAGS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PYTENSORRC", str(tmp_path / "settings"))
    path = Path(shutil.copy(whole, tmp_path / prebuilt.LEVELS[0].file))
    monkeypatch.setattr(prebuilt, "FOLDER", tmp_path)
    monkeypatch.setattr(prebuilt, "find", lambda: path)
    monkeypatch.setattr(library, "compiled", lambda: tmp_path / "compiled.so")
    monkeypatch.setattr(library, "installed", library.installed.__wrapped__)
    monkeypatch.setattr(library, "build", library.build.__wrapped__)
    return path


def test_what_the_user_says_is_compiled(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = installed.with_name("compiled.so")
    assert library.build() == installed
    for variable, value in (
        ("CC", "clang"),
        ("DLMIE_CFLAGS", "-O1"),
        ("PYTENSOR_FLAGS", "blas__ldflags=-lmkl_rt"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert library.build() == own
    settings = installed.with_name("settings")
    settings.write_text("[blas]\nldflags = -lmkl_rt\n")
    assert library.build() == own
    settings.write_text("[global]\nfloatX = float32\n")
    assert library.build() == installed
    monkeypatch.setattr(library, "openblas", lambda: None)
    assert library.build() == own


def test_one_that_cannot_be_loaded_is_replaced(
    whole: Path, installed: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    installed.write_bytes(b"\x7fELF cut off")
    monkeypatch.setattr(library, "compiled", lambda: whole)
    assert library.build() == whole
    assert library.installed() is None
    assert isinstance(library.load.__wrapped__(), ctypes.CDLL)
    assert capsys.readouterr().err.count("cannot be loaded") >= 1
    assert installed.exists()  # the installation is not ours to change


def test_levels_are_chosen_by_a_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(value: str) -> list[str]:
        monkeypatch.setenv(prebuilt.VARIABLE, value)
        return [level.name for level in prebuilt.chosen()]

    monkeypatch.setattr(prebuilt, "features", lambda: AVX2)
    monkeypatch.delenv(prebuilt.VARIABLE, raising=False)
    assert [level.name for level in prebuilt.chosen()] == ["x86-64-v3"]
    assert names("native") == ["x86-64-v3"]
    assert names("all") == ["x86-64-v4", "x86-64-v3", "x86-64-v2"]
    assert names("x86-64-v2, x86-64-v4") == ["x86-64-v2", "x86-64-v4"]
    assert names("none") == names("") == []
    with pytest.raises(ValueError, match="v5 is none of x86-64-v4, x86-64-v3"):
        names("x86-64-v5")


def test_a_built_library_is_found_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not prebuilt.usable():
        pytest.skip("no level is known for this machine")
    source = tmp_path / "answer.c"
    source.write_text(
        "#ifdef DLMIE_FLOAT\n"
        '__attribute__((visibility("default"))) int answer(void) { return 42; }\n'
        "#endif\n"
    )
    monkeypatch.setattr(building, "sources", lambda: [source])
    folder = tmp_path / "prebuilt"
    prebuilt.build(folder, prebuilt.usable()[:1])
    found = prebuilt.find(folder)
    assert found is not None
    monkeypatch.setattr(prebuilt, "FOLDER", folder)
    assert library._opened(found).answer() == 42
    source.write_text("int changed;\n")
    assert prebuilt.find(folder) is None


def test_without_a_compiler_nothing_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompilerError, match="no C compiler"):
        prebuilt.build(tmp_path / "prebuilt", prebuilt.usable()[:1])
    assert not (tmp_path / "prebuilt").exists()
