"""Make programs, which run without PyTensor, of functions that PyTensor has compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.maker import Function
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.link.c.basic import CLinker
from pytensor.link.c.params_type import Params
from pytensor.link.vm import gc_helper

from dlmie.errors import DlmieError
from dlmie.ops.runtime.kernel_op import KernelOp
from dlmie.typing import JsonObject


class CaptureError(DlmieError):
    """A function cannot be kept as a program: says why."""


class Archive:
    """The arrays of some programs by name; each is there once."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[int, str] = {}

    def add(self, value: Any) -> str:
        """Name of an array or NumPy scalar."""
        if id(value) not in self._names:
            self._names[id(value)] = name = f"array{len(self.arrays)}"
            self.arrays[name] = np.asarray(value)
        return self._names[id(value)]


def capture(function: Function, archive: Archive) -> JsonObject:
    """The plan of a program that does what the function does.

    Parameters
    ----------
    function
        From ``dlmie.function``; nothing is updated by it, and each operation has its C module.
    archive : Archive
        Takes the parameters and constants, as they are now.

    Returns
    -------
    dict
        JSON values: what :class:`~dlmie.ops.runtime.programs.Program` takes.

    Raises
    ------
    CaptureError
        It updates shared variables, or an operation runs in Python.
    """
    maker, vm = function.maker, function.vm
    if any(stated.update is not None for stated in maker.inputs):
        raise CaptureError("the function updates shared variables")
    graph, order = maker.fgraph, list(vm.nodes)
    slots = {variable: i for i, variable in enumerate(vm.storage_map)}
    inputs, values = [], []
    for variable, stated, container in zip(
        graph.inputs, maker.inputs, function.input_storage, strict=True
    ):
        if stated.implicit or stated.shared:
            if not graph.clients[variable]:
                continue  # a rewrite has put something else in its place
            values.append(_value(slots[variable], container.storage[0], archive))
        else:
            shape, dtype = list(variable.type.shape), variable.type.dtype
            inputs.append({"slot": slots[variable], "dtype": dtype, "shape": shape})
    values += [
        _value(slots[variable], variable.data, archive)
        for variable in vm.storage_map
        if isinstance(variable, Constant)
    ]
    computed, last_user = gc_helper(order)
    nodes = []
    for node, thunk in zip(order, vm.thunks, strict=True):
        clear = [
            slots[v]
            for v in dict.fromkeys(node.inputs)
            if v in computed and v not in graph.outputs and last_user[v] is node
        ]
        nodes.append({**_bound(node, thunk, slots), "clear": clear})
    return {
        "inputs": inputs,
        "outputs": [slots[variable] for variable in graph.outputs],
        "single": function.unpack_single,
        "slots": len(slots),
        "values": values,
        "nodes": nodes,
    }


def _value(slot: int, value: Any, archive: Archive) -> JsonObject:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise CaptureError(f"a constant is no array, but {type(value).__name__}")
    return {"slot": slot, "array": archive.add(value), "scalar": isinstance(value, np.generic)}


def _bound(node: Apply, thunk: Any, slots: dict[Variable, int]) -> JsonObject:
    """The module of a node, and the slots in the order in which it is handed them.

    As ``CLinker.cthunk_factory`` does it: inputs, outputs, each once, and then the parameters; an
    operation with a kernel has its facts instead, see :mod:`dlmie.ops.runtime.invocation`.
    """
    module = getattr(getattr(thunk, "thunk", None), "module", None)
    if module is None or thunk.lazy:
        raise CaptureError(f"{node.op} has no C module")
    bound = {
        "module": Path(module.__file__).relative_to(pytensor.config.compiledir).as_posix(),
        "inputs": [slots[v] for v in node.inputs],
        "outputs": [slots[v] for v in node.outputs],
    }
    if isinstance(node.op, KernelOp):
        return {**bound, "symbols": node.op.symbols(node), "numbers": node.op.numbers(node)}
    linker = CLinker().accept(FunctionGraph(node.inputs, node.outputs), no_recycling=[])
    bound["inputs"] = list(dict.fromkeys(bound["inputs"]))
    return {**bound, "parameters": [_parameter(node, variable) for variable in linker.orphans]}


def _parameter(node: Apply, variable: Variable) -> JsonObject:
    data = getattr(variable, "data", None)
    if not isinstance(data, Params):
        raise CaptureError(f"{node.op} is told what cannot be kept: {type(data).__name__}")
    values = {name: np.asarray(data[name]) for name in data}
    if any(value.dtype.kind not in "biuf" for value in values.values()):
        raise CaptureError(f"{node.op} is told more than numbers")
    return {"fields": {n: [v.dtype.name, v.tolist()] for n, v in values.items()}}
