"""dlmie: image captioning and gradient pictures on PyTensor graphs compiled to C."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

# In a source checkout the packages models, visualize and data lie beside this folder; where dlmie
# is installed they lie in it, whatever lies beside.
_HERE = Path(__file__).resolve().parent
if (_HERE.parent / "setup.cfg").is_file() and not (_HERE / "models").is_dir():
    __path__.append(str(_HERE.parent))

if TYPE_CHECKING:
    from dlmie.backends.choice import use_backend as use_backend
    from dlmie.compilation import function as function
    from dlmie.graph.network import Network as Network
    from dlmie.models.registry import register as register
    from dlmie.trained import evaluate as evaluate
    from dlmie.trained import load as load
    from dlmie.training.runs import compile as compile
    from dlmie.training.runs import resume as resume
    from dlmie.training.runs import train as train

    __version__: str

# Public names and the module that defines each: nothing heavy is imported before its first use.
_PUBLIC = {
    "function": "dlmie.compilation",
    "use_backend": "dlmie.backends.choice",
    "compile": "dlmie.training.runs",
    "train": "dlmie.training.runs",
    "resume": "dlmie.training.runs",
    "load": "dlmie.trained",
    "evaluate": "dlmie.trained",
    "Network": "dlmie.graph.network",
    "register": "dlmie.models.registry",
}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> object:
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
