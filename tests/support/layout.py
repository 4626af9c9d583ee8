"""The modules of dlmie and their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Folders of the checkout and the packages that they are installed as.
PACKAGES = {
    "dlmie": "dlmie",
    "models": "dlmie.models",
    "visualize": "dlmie.visualize",
    "data": "dlmie.data",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its dotted name, and its file."""
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path
