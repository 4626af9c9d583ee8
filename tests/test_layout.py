"""Who may import whom, and what is installed."""

from __future__ import annotations

import ast
import configparser
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from layout import PACKAGES, ROOT, modules


def test_import_contracts(tmp_path: Path) -> None:
    """The contracts of setup.cfg, checked on the package as it is installed: in one folder."""
    for folder, package in PACKAGES.items():
        target = tmp_path.joinpath(*package.split("."))
        shutil.copytree(ROOT / folder, target, ignore=shutil.ignore_patterns("__pycache__", "*.h5"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    command = [sys.executable, "-c", code, "--config", str(ROOT / "setup.cfg"), "--no-cache"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_setup_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {name for name, path in modules() if path.name == "__init__.py"}
    assert listed == found


def test_setup_takes_along_every_file_that_is_not_python() -> None:
    """Kernels, weights, word lists, pages: what setup.cfg does not name is missing in a wheel."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = config["options.package_data"]
    patterns = {package: named[package].replace(",", " ").split() for package in named}
    packages = {path.parent: name for name, path in modules() if path.name == "__init__.py"}
    for folder in PACKAGES:
        for path in (ROOT / folder).rglob("*"):
            made = {"__pycache__", "prebuilt"} & set(path.parts)  # by Python, and by setup.py
            if path.is_dir() or path.suffix == ".py" or made:
                continue
            home = next(parent for parent in path.parents if parent in packages)
            wanted = [*patterns["*"], *patterns.get(packages[home], [])]
            assert any(path in home.glob(pattern) for pattern in wanted), path


@pytest.mark.parametrize("name", [name for name, path in modules() if path.stem == "__init__"])
def test_no_file_bears_the_name_of_a_public_function(name: str) -> None:
    package, known = importlib.import_module(name), {module for module, _ in modules()}
    for public in getattr(package, "__all__", ()):
        assert f"{name}.{public}" not in known


@pytest.mark.parametrize("name", ["dlmie", "dlmie.models", "dlmie.visualize"])
def test_type_checkers_know_every_public_name(name: str) -> None:
    """Public names are imported when first used; for type checkers they are at once."""
    package = importlib.import_module(name)
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    blocks = [n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n)]
    lines = [line for block in blocks for line in block.body if isinstance(line, ast.ImportFrom)]
    assert {alias.asname for line in lines for alias in line.names} == set(package._PUBLIC)


@pytest.mark.parametrize("name", ["models", "visualize", "data"])
def test_packages_refuse_their_bare_name(name: str) -> None:
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

    from dlmie.ops.runtime import library

    library.load()
    assert np.float64(1e-310) / 2 > 0
