"""Compile all new modules of a graph in a few runs of the compiler, several at a time.

PyTensor compiles the modules of a graph one after another, and only one in all processes that share
a cache folder: two thirds of that time are the start of the compiler, its headers and the linker.
``Linker`` therefore looks first which modules the cache lacks, compiles these together, a few
translation units on as many processors, and puts them into the cache as PyTensor itself would.
Whatever does not work out here is left to PyTensor, which finds it missing and compiles it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytensor
from filelock import FileLock, Timeout
from pytensor.graph.basic import Apply
from pytensor.graph.fg import FunctionGraph
from pytensor.link.c.basic import CLinker, get_module_cache
from pytensor.link.c.cmodule import GCC_compiler, KeyData, get_lib_extension, get_module_hash
from pytensor.link.c.exceptions import CompileError
from pytensor.link.c.op import COp
from pytensor.link.vm import VMLinker

from dlmie.ops.runtime.cache import announced_wait
from dlmie.ops.runtime.headers import HEADERS
from dlmie.ops.runtime.invocation import call_graph
from dlmie.ops.runtime.kernel_op import KernelOp, kernels_ready

# As many modules in one translation unit gain most of what there is to gain, and inlining, which
# has a budget for the unit, treats them like single ones.
_TOGETHER = 16

# What ends the includes of a module: DynamicModule.code.
_MARK = "//////////////////////\n////  Support Code\n"


class Linker(VMLinker):
    """PyTensor's ``cvm``; before it asks for one module after another, the missing are compiled."""

    def make_all(self, *arguments: Any, **options: Any) -> Any:
        prepare(self.fgraph)
        return super().make_all(*arguments, **options)


@dataclass(eq=False)
class _Module:
    """A module that the cache lacks."""

    name: str  # the hash of its code: PyInit_<name>
    hash: str  # of code, compiler and flags: its place in the cache
    key: Any
    source: str
    linker: CLinker

    def options(self) -> dict[str, Any]:
        """What tells the compiler how, as CLinker.compile_cmodule hands it on."""
        linker = self.linker
        return {
            "include_dirs": linker.header_dirs(),
            "lib_dirs": linker.lib_dirs(),
            "libs": linker.libraries(),
            "preargs": linker.compile_args(),
        }


def prepare(fgraph: FunctionGraph) -> None:
    """Put every module of this graph into PyTensor's cache, as far as that can be done here."""
    cache = get_module_cache()
    missing = _missing(fgraph, cache)
    if not missing:
        return
    with _claims(missing) as mine:
        cache.refresh(cleanup=False)  # what others have compiled since
        _build([m for m in mine if m.hash not in cache.module_hash_to_key_data])
    _wait_for([module for module in missing if module not in mine])
    cache.refresh(cleanup=False)


def _missing(fgraph: FunctionGraph, cache: Any) -> list[_Module]:
    """The modules that ``COp.make_c_thunk`` will ask for in vain."""
    found: dict[str, _Module] = {}
    for node in fgraph.apply_nodes:
        if isinstance(node.op, KernelOp) and not kernels_ready():
            continue  # runs in Python
        if isinstance(node.op, COp) and not _has_float16(node):
            with contextlib.suppress(Exception):  # no C code, or PyTensor says what is wrong
                node.op.prepare_node(node, None, None, "c")
                graph = _graph_of(node)
                linker = CLinker().accept(graph, no_recycling=[])
                key = linker.cmodule_key()
                if not key or not key[0] or key in cache.entry_from_key:
                    continue  # unversioned ones are not kept
                source = linker.get_src_code()
                hash = get_module_hash(source, key)
                if hash not in cache.module_hash_to_key_data:
                    name = linker.get_dynamic_module().code_hash
                    found[hash] = _Module(name, hash, key, source, linker)
    return sorted(found.values(), key=lambda module: module.hash)


def _graph_of(node: Apply) -> FunctionGraph:
    """The graph that a module is made of."""
    if isinstance(node.op, KernelOp):
        return call_graph()
    return FunctionGraph(node.inputs, node.outputs)


def _has_float16(node: Apply) -> bool:
    return any(getattr(v.type, "dtype", "") == "float16" for v in [*node.inputs, *node.outputs])


@contextlib.contextmanager
def _claims(modules: list[_Module]) -> Iterator[list[_Module]]:
    """Those that no other process compiles at this moment; none begins while this lasts."""
    with contextlib.ExitStack() as stack:
        mine = []
        for module in modules:
            with contextlib.suppress(Timeout):
                stack.enter_context(_claim(module, 0))
                mine.append(module)
        yield mine


def _wait_for(modules: list[_Module]) -> None:
    """Until whoever compiles these has finished, or takes too long."""
    if modules:
        with contextlib.suppress(Timeout), announced_wait():
            for module in modules:
                with _claim(module, pytensor.config.compile__timeout):
                    pass


def _claim(module: _Module, timeout: float) -> Any:
    folder = Path(pytensor.config.compiledir, "dlmie_claims")
    folder.mkdir(exist_ok=True)
    return FileLock(folder / module.hash).acquire(timeout=timeout)


def _build(modules: list[_Module]) -> None:
    """Compile the modules; put those into the cache that compile."""
    alike: dict[str, list[_Module]] = {}
    for module in modules:
        if _can_share(module.source):
            alike.setdefault(repr(module.options()), []).append(module)
    units = [unit for group in alike.values() for unit in _divided(group)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_compile, units))


def _divided(modules: list[_Module]) -> list[list[_Module]]:
    """About equally much source for each processor, or more parts if that is too much for one."""
    parts = max(min(os.cpu_count() or 1, len(modules)), -(-len(modules) // _TOGETHER))
    by_length = sorted(modules, key=lambda module: len(module.source), reverse=True)
    return [by_length[part::parts] for part in range(parts)]


def _can_share(source: str) -> bool:
    """Whether a translation unit can hold it beside others: all it includes comes first."""
    _, mark, body = source.partition(_MARK)
    return bool(mark) and all(line in HEADERS for line in re.findall(r"#include.*", body))


def _unit(modules: list[_Module]) -> str:
    """One translation unit: each module in its own namespace, its macros forgotten after it."""
    heads, bodies = HEADERS.splitlines(), []
    for module in modules:
        head, _, body = module.source.partition(_MARK)
        heads += head.splitlines()
        macros = dict.fromkeys(re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", body, re.MULTILINE))
        forgotten = "".join(f"#undef {macro}\n" for macro in macros)
        bodies.append(f"namespace in_{module.name} {{\n{body}\n}}\n{forgotten}")
    return "\n".join([*dict.fromkeys(heads), *bodies])


def _compile(modules: list[_Module]) -> None:
    base = Path(pytensor.config.compiledir)
    with (
        contextlib.suppress(CompileError, OSError),
        tempfile.TemporaryDirectory(dir=base, prefix="dlmie_modules_") as folder,
    ):
        GCC_compiler.compile_str(
            "unit", _unit(modules), folder, py_module=False, **modules[0].options()
        )
        library = Path(folder, f"unit.{get_lib_extension()}")
        for module in modules:
            _publish(module, library, Path(folder))


def _publish(module: _Module, library: Path, folder: Path) -> None:
    """Put one module into the cache: whole, or not at all."""
    staged = folder / module.name
    staged.mkdir(mode=0o700)
    file = f"{module.name}.{get_lib_extension()}"
    # PyTensor removes folders of this name when they have not been used for a month.
    target = folder.parent / f"tmp{secrets.token_hex(8)}"
    try:
        os.link(library, staged / file)  # one library holds them all, and is loaded once
    except OSError:
        shutil.copy(library, staged / file)
    (staged / "mod.cpp").write_text(module.source)
    (staged / "__init__.py").touch()
    entry = KeyData(
        keys={module.key},
        module_hash=module.hash,
        key_pkl=str(target / "key.pkl"),
        entry=str(target / file),
    )
    with contextlib.suppress(pickle.PicklingError, TypeError, AttributeError):
        (staged / "key.pkl").write_bytes(pickle.dumps(entry, pickle.HIGHEST_PROTOCOL))
        os.rename(staged, target)
