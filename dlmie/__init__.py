"""dlmie: image captioning and gradient pictures on PyTensor graphs compiled to C."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parent.parent


class _CheckoutFinder(MetaPathFinder):
    """Serve dlmie.models, .visualize and .data from their folders in a source checkout."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, room = fullname.partition(".")
        if package != "dlmie" or room not in ("models", "visualize", "data"):
            return None
        init = _CHECKOUT / room / "__init__.py"
        return spec_from_file_location(
            fullname, init, submodule_search_locations=[str(init.parent)]
        )


if (_CHECKOUT / "setup.cfg").is_file():
    sys.meta_path.insert(0, _CheckoutFinder())

# Public names and the module that defines each: nothing heavy is imported before its first use.
_PUBLIC = {
    "function": "dlmie.compilation",
    "compile": "dlmie.steps",
    "train": "dlmie.hub.training",
    "resume": "dlmie.hub.training",
    "load": "dlmie.hub",
    "evaluate": "dlmie.hub",
    "Network": "dlmie.network",
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
    return sorted([*globals(), *__all__])
