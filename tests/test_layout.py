"""The laws of the house: who may import whom, and what is installed."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOOR = ("dlmie.errors", "dlmie.text", "dlmie.data.images", "dlmie.data.vocabulary")


def modules() -> Iterator[tuple[str, Path]]:
    for folder, package in (
        ("dlmie", "dlmie"),
        ("models", "dlmie.models"),
        ("visualize", "dlmie.visualize"),
        ("data", "dlmie.data"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *parts])
            yield name.removesuffix(".__init__"), path


def room(module: str) -> str:
    if any(f"{module}.".startswith(f"{name}.") for name in FLOOR):
        return "floor"
    parts = module.split(".")
    if len(parts) > 1 and parts[1] in ("models", "visualize", "data"):
        return parts[1]
    roof = len(parts) > 1 and parts[1] in ("cli", "hub", "__main__")
    return "roof" if roof else "engine"


ALLOWED = {
    "floor": {"floor"},
    "data": {"floor", "data"},
    "engine": {"floor", "engine"},
    "models": {"floor", "engine", "models"},
    "visualize": {"floor", "engine", "visualize"},
    "roof": {"floor", "engine", "data", "models", "visualize", "roof"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


KNOWN = {name for name, _ in modules()}


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=lambda x: str(x))
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    for imported in imports(path):
        if imported in KNOWN and imported not in (
            "dlmie",
            "dlmie.models",
            "dlmie.visualize",
            "dlmie.data",
        ):
            assert room(imported) in ALLOWED[room(module)], f"{module} imports {imported}"


def test_data_never_imports_pytensor() -> None:
    for module, path in modules():
        if module.startswith("dlmie.data"):
            assert not any(name.split(".")[0] == "pytensor" for name in imports(path)), module


def test_setup_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {name for name, path in modules() if path.name == "__init__.py"}
    assert listed == found


@pytest.mark.parametrize("name", [name for name, path in modules() if path.stem == "__init__"])
def test_no_file_bears_the_name_of_a_public_function(name: str) -> None:
    package = importlib.import_module(name)
    for public in getattr(package, "__all__", ()):
        assert f"{name}.{public}" not in KNOWN


@pytest.mark.parametrize("name", ["models", "visualize", "data"])
def test_rooms_refuse_their_bare_name(name: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert f"import this package as dlmie.{name}" in result.stderr


def test_importing_dlmie_is_cheap() -> None:
    code = (
        "import sys, dlmie; "
        "print([m for m in ('pytensor', 'nltk', 'matplotlib', 'h5py', 'skimage', 'scipy') "
        "if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_kernels_leave_denormals_alone() -> None:
    import numpy as np

    from dlmie.ops import library

    library.load()
    assert np.float64(1e-310) / 2 > 0
