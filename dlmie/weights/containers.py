"""Dictionaries and lists of arrays → one flat dictionary of named arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlmie.errors import WeightsError
from dlmie.files.pickles import Deferred, name_of

# Shared containers cost a file a few bytes each, but are walked again wherever they hang:
# without limits a small file could keep the reader busy forever.
MAX_DEPTH = 32
MAX_VISITS = 1_000_000

# Training scripts wrap the state dict together with an epoch, a loss, an optimizer, …
WRAPPERS = ("state_dict", "model_state_dict", "model")


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Every array in `tree` by name: `a/b` for `tree["a"]["b"]`, `a/0` for `tree["a"][0]`.

    A training checkpoint gives its state dict alone. What is no array (an epoch, a text) is left
    out. A lone array is called `arr_0`, as NumPy does.
    """
    arrays: dict[str, np.ndarray] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), _unwrap(tree))]
    visits = 0
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, np.ndarray | np.generic):
            name = "/".join(path) or "arr_0"
            if name in arrays:
                raise WeightsError(f"holds two arrays called {name!r}")
            arrays[name] = np.asarray(node)
            continue
        children = _children(node)
        visits += len(children)
        if visits > MAX_VISITS:
            raise WeightsError(f"holds more than {MAX_VISITS:,} entries; refused")
        if children and len(path) == MAX_DEPTH:
            raise WeightsError(f"nests containers more than {MAX_DEPTH} deep; refused")
        waiting += [((*path, *map(name_of, key)), child) for key, child in reversed(children)]
    return arrays


def _children(node: Any) -> list[tuple[tuple[Any, ...], Any]]:
    """What a node holds, each with the part that it adds to the name."""
    if isinstance(node, Deferred):
        return [((), node.value())]
    if isinstance(node, dict):
        return [((key,), child) for key, child in node.items()]
    if isinstance(node, list | tuple):
        return [((index,), child) for index, child in enumerate(node)]
    return []


def _unwrap(tree: Any) -> Any:
    if isinstance(tree, Deferred):
        tree = tree.value()
    if isinstance(tree, dict):
        for key in (*WRAPPERS, *(wrapper.encode() for wrapper in WRAPPERS)):
            if isinstance(tree.get(key), dict):
                return tree[key]
    return tree
