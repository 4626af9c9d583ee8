"""Compiled functions that were kept: run again without PyTensor, its graphs and its rewriting.

A program is what PyTensor's C linker made of a graph: its modules, in order, and which storage each
of them reads and writes.  The modules stay where PyTensor keeps them; a program names them, and is
of no use where they are gone.  ``capture.py`` makes programs of functions.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Mapping, Sequence
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dlmie.errors import DataError
from dlmie.files.trust import only_ours
from dlmie.ops.runtime import library
from dlmie.typing import JsonObject

# Where PyTensor keeps a module: its own folder in the cache, and the hash of its source.
_MODULE = re.compile(r"tmp\w+/m[0-9a-f]{64}\.(?:so|dylib)")

# Generated code runs with Python's lock, and reports errors in a list of its own.
_Thunk = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_context_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(
    ("PyCapsule_GetContext", ctypes.pythonapi)
)


class Program:
    """A compiled function of arrays, called as the function was from which it was captured.

    Parameters
    ----------
    plan : mapping
        From :func:`~dlmie.ops.runtime.capture.capture`.
    arrays : mapping
        Constants and parameters, by the names in the plan.
    folder : Path
        PyTensor's cache.

    Raises
    ------
    DataError
        A module is not there any more, or is in the hands of others.
    """

    def __init__(self, plan: JsonObject, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
        self._inputs: list[JsonObject] = plan["inputs"]
        self._outputs: list[int] = plan["outputs"]
        self._single: bool = plan["single"]
        self._storage: list[list[Any]] = [[None] for _ in range(plan["slots"])]
        for value in plan["values"]:
            array = arrays[value["array"]]
            self._storage[value["slot"]][0] = array[()] if value["scalar"] else array
        fixed = {value["slot"] for value in plan["values"]}
        self._passing = [cell for i, cell in enumerate(self._storage) if i not in fixed]
        self._steps = [_Step(node, self._storage, folder) for node in plan["nodes"]]

    def __call__(self, *inputs: np.ndarray) -> Any:
        """As the function: one array, or the list of them.

        Raises
        ------
        TypeError
            An array is not what the function takes.
        """
        if len(inputs) != len(self._inputs):
            raise TypeError(f"{len(inputs)} inputs were given, and {len(self._inputs)} are wanted")
        try:
            for wanted, array in zip(self._inputs, inputs, strict=True):
                _check(wanted, array)
                self._storage[wanted["slot"]][0] = array
            for step in self._steps:
                step.run()
            results = [self._storage[slot][0] for slot in self._outputs]
        finally:
            for cell in self._passing:
                cell[0] = None
        return results[0] if self._single else results


class _Step:
    """One module, bound to its storage."""

    def __init__(self, node: JsonObject, storage: Sequence[list[Any]], folder: Path) -> None:
        self._error: list[Any] = [None, None, None]
        inputs, outputs = ([storage[slot] for slot in node[k]] for k in ("inputs", "outputs"))
        if "symbols" in node:
            self._held = library.handed(
                inputs, outputs, library.packed(node["symbols"], node["numbers"])
            )
        else:
            self._held = [*inputs, *outputs, *([_parameter(p)] for p in node["parameters"])]
        self._done = [storage[slot] for slot in node["clear"]]
        module = _module(node["module"], folder)
        self._capsule = module.instantiate(self._error, *self._held)
        self._call = _Thunk(_pointer_of(self._capsule, None))
        self._struct = _context_of(self._capsule)

    def run(self) -> None:
        if self._call(self._struct):
            kind, text, trace = self._error
            raise kind(text).with_traceback(trace)
        for cell in self._done:
            cell[0] = None


def _check(wanted: JsonObject, array: np.ndarray) -> None:
    shape = wanted["shape"]
    fits = (
        isinstance(array, np.ndarray)
        and array.dtype == wanted["dtype"]
        and array.ndim == len(shape)
        and all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
    )
    if not fits:
        given = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array)
        raise TypeError(f"an array {wanted['dtype']} {tuple(shape)} is wanted, not {given}")


def _parameter(stated: JsonObject) -> Any:
    """What the module of an operation is told beside its inputs."""
    values = {name: np.array(value, dtype) for name, (dtype, value) in stated["fields"].items()}
    return {name: v if v.ndim else v[()] for name, v in values.items()}


def _module(name: str, folder: Path) -> ModuleType:
    """The extension module of this name in PyTensor's cache."""
    path = folder / name
    if not _MODULE.fullmatch(name) or not only_ours(path.parent) or not only_ours(path):
        raise DataError(f"{path} is no module of this user's")
    loader = ExtensionFileLoader(path.stem, str(path))
    spec = importlib.util.spec_from_loader(path.stem, loader)
    assert spec is not None
    try:
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except ImportError as error:
        raise DataError(f"{path} cannot be loaded ({error})") from error
    return module
