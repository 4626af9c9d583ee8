"""dlmie: image captioning and gradient pictures on PyTensor graphs compiled to C."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

# In a source checkout the packages models, visualize and data lie beside this folder; where dlmie
# is installed they lie in it, whatever lies beside.
_HERE = Path(__file__).resolve().parent
if (_HERE.parent / "setup.cfg").is_file() and not (_HERE / "models").is_dir():
    __path__.append(str(_HERE.parent))

# Public names and the module that defines each: nothing heavy is imported before its first use.
_PUBLIC = {
    "function": "dlmie.compilation",
    "compile": "dlmie.training.runs",
    "train": "dlmie.training.runs",
    "resume": "dlmie.training.runs",
    "load": "dlmie.trained",
    "evaluate": "dlmie.trained",
    "Network": "dlmie.graph.network",
    "register": "dlmie.models.registry",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("dlmie")
        except PackageNotFoundError:
            return "0+checkout"
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'dlmie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
