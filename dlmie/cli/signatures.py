"""Defaults and types of options, read from the signatures of the functions they belong to.

The source is parsed, not imported: ``dlmie train --help`` shows the defaults of
:func:`dlmie.train` without waiting for PyTensor, and they cannot drift apart.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

#: A parameter without a default, and one whose default is not written out as a value.
REQUIRED: object = object()
COMPUTED: object = object()


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function, or one field of a dataclass: its default and its annotation."""

    default: object
    annotation: str

    @property
    def type(self) -> type:
        """The plain type that a word of the command line is read as."""
        names = {name.strip() for name in self.annotation.split("|")}
        return next((t for t in (bool, int, float) if t.__name__ in names), str)


@functools.cache
def parameters(target: str) -> dict[str, Parameter]:
    """The parameters of a function, of a class's constructor, or the fields of a dataclass.

    Parameters
    ----------
    target : str
        Where it is: ``"dlmie.captioning.decoding:Decoding"``.

    Examples
    --------
    >>> parameters("dlmie.captioning.decoding:Decoding")["beam"].default
    5
    """
    module, _, name = target.partition(":")
    for node in _tree(module).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _of_function(node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            inherited = [base.id for base in node.bases if isinstance(base, ast.Name)]
            return _of_class(node) or parameters(f"{module}:{inherited[0]}")
        if isinstance(node, ast.ImportFrom) and name in (alias.name for alias in node.names):
            return parameters(f"{node.module}:{name}")
    raise LookupError(f"{module} has no {name}")


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_file(module).read_text(encoding="utf-8"))


def _file(module: str) -> Path:
    """The source of a module, found without importing the packages that it stands in."""
    _, first, *below = module.split(".")
    spec = find_spec(f"dlmie.{first}")
    if spec is None or spec.origin is None:
        raise LookupError(f"there is no module {module}")
    path = Path(spec.origin)
    for part in below:
        folder = path.parent / part
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    return path


def _of_function(node: ast.FunctionDef) -> dict[str, Parameter]:
    positional = [*node.args.posonlyargs, *node.args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults))
    pairs = list(zip(positional, [*missing, *node.args.defaults], strict=True))
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {arg.arg: _parameter(default, arg.annotation) for arg, default in pairs}


def _of_class(node: ast.ClassDef) -> dict[str, Parameter]:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item)
    fields = {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            fields[item.target.id] = _parameter(item.value, item.annotation)
    return fields


def _parameter(default: ast.expr | None, annotation: ast.expr | None) -> Parameter:
    value = REQUIRED
    if default is not None:
        try:
            value = ast.literal_eval(default)
        except ValueError:
            value = COMPUTED
    return Parameter(value, "" if annotation is None else ast.unparse(annotation))
