"""A compiled module or kernel library that cannot be loaded is deleted and made again, once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytensor.link.c.basic import get_module_cache

from dlmie import compilation
from dlmie.cli import checks
from dlmie.ops.runtime import cache, library


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty module in a cache folder, as a power cut leaves it."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    path = tmp_path / "cache" / "tmp0123" / "m.so"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def damaged(path: Path) -> ImportError:
    return ImportError(f"{path}: file too short", path=str(path))


def test_a_module_is_deleted_and_forgotten(
    module: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = get_module_cache()
    known.entry_from_key["a key"] = str(module)
    known.module_from_name[str(module)] = None
    assert cache.heal(damaged(module))
    assert not module.parent.exists()
    assert "a key" not in known.entry_from_key
    assert str(module) not in known.module_from_name
    line = f"dlmie: {module} cannot be loaded (file too short): deleted and compiled again\n"
    assert capsys.readouterr().err == line
    assert not cache.heal(damaged(module))  # it is gone: something else is wrong


def test_what_is_not_in_the_cache_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m.so").touch()
    assert not cache.heal(damaged(tmp_path / "m.so"))
    assert (tmp_path / "m.so").exists()
    assert not cache.heal(ImportError("no module named x"))


def test_compiling_goes_on_after_healing(module: Path) -> None:
    calls: list[str] = []

    def compile(text: str) -> str:
        calls.append(text)
        if len(calls) == 1:
            raise damaged(module)
        return text

    assert compilation._patiently(compile, "graph") == "graph"
    assert len(calls) == 2

    def never() -> None:
        raise damaged(module)

    with pytest.raises(ImportError, match="file too short"):
        compilation._patiently(never)


def test_a_module_that_another_process_deleted_is_asked_for_again(module: Path) -> None:
    gone = FileNotFoundError(2, "No such file or directory", str(module.parent / "key.pkl"))
    calls: list[int] = []

    def compile() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise gone
        return len(calls)

    assert compilation._patiently(compile) == 3
    with pytest.raises(FileNotFoundError):
        compilation._patiently(lambda: open("/nowhere/at/all"))  # noqa: SIM115


@pytest.mark.parametrize("content", [b"", b"\x7fELF cut off"])
def test_the_kernel_library_is_built_again(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, path = library.build(), tmp_path / "libdlmie.so"
    path.write_bytes(content)

    class Build:
        def __call__(self) -> Path:
            if not path.exists():
                os.symlink(whole, path)
            return path

        def cache_clear(self) -> None:
            pass

    monkeypatch.setattr(library, "build", Build())
    assert isinstance(library.load.__wrapped__(), ctypes.CDLL)
    assert "deleted and compiled again" in capsys.readouterr().err


def test_doctor_names_the_command_that_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[checks.Check]:
        raise ImportError("m.so: file too short")

    others = ("system", "packages", "compiler", "cache", "weights", "shipped", "ranks", "jax")
    for name in others:
        monkeypatch.setattr(checks, f"check_{name}", lambda: iter(()))
    monkeypatch.setattr(checks, "check_engine", broken)
    (found,) = checks.run_all()
    assert found.fix is not None
    assert found.fix.startswith(f"rm -r {cache.cache_folder()}")
