"""Networks: named symbolic variables over named parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.type import TensorType

from dlmie.errors import DlmieError
from dlmie.graph.joining import join_layers
from dlmie.text import format_table, suggest

#: Between the names of layers that are joined.
JOIN = "+"


class Parameter(TensorSharedVariable):
    """A shared variable that a network learns; found by walking the graph, asked for by role."""

    roles: frozenset[str]


def parameter(
    name: str, value: np.ndarray, *, trainable: bool = True, regularizable: bool = False
) -> Parameter:
    """A named parameter with a fixed shape.

    Parameters
    ----------
    name : str
        Path of the parameter in its model: ``/decoder/lstm/W``.
    value : float array
        Its first value; the dtype stays.
    trainable, regularizable : bool
        The roles by which optimizers and weight decay ask for it.
    """
    value = np.asarray(value)
    result = Parameter(
        type=TensorType(value.dtype, shape=value.shape), value=value, strict=True, name=name
    )
    roles = {"trainable": trainable, "regularizable": regularizable}
    result.roles = frozenset(role for role, wanted in roles.items() if wanted)
    return result


def find_parameters(
    outputs: Variable | Iterable[Variable], role: str | None = None
) -> list[Parameter]:
    """The parameters that ``outputs`` depend on, sorted by name; of one role, if given."""
    roots = [outputs] if isinstance(outputs, Variable) else list(outputs)
    found = {v for v in ancestors(roots) if isinstance(v, Parameter)}
    chosen = [v for v in found if role is None or role in v.roles]
    return sorted(chosen, key=lambda v: str(v.name))


class View(Mapping[str, Variable]):
    """The named variables of a network on one input: ``view["conv5_3"]``.

    ``view["block4+block10"]`` are several layers joined: see :func:`join_layers`.
    """

    def __init__(self, network: Network, input: Variable, variables: Mapping[str, Variable]):
        self.network, self.input = network, input
        self.variables = dict(variables)
        self._joined: dict[str, Variable] = {}
        for layer, variable in self.variables.items():
            self._mark(variable, layer)

    def _mark(self, variable: Variable, layer: str) -> None:
        """Note what a captioner needs to know about the annotations it is handed."""
        variable.tag.network, variable.tag.layer = self.network, layer
        if variable.name is None:
            variable.name = layer

    def __getitem__(self, layer: str) -> Variable:
        if isinstance(layer, str) and JOIN in layer:
            return self._join(layer)
        try:
            return self.variables[layer]
        except (KeyError, TypeError):  # TypeError: a list, as a file may have it
            layer = str(layer)
            inner = "/" in layer  # "conv1_1/pre" and the like make long lists
            known = [name for name in self.variables if inner or "/" not in name]
            raise DlmieError(
                f"{self.network.name} has no layer {layer!r}{suggest(layer, known)}"
            ) from None

    def _join(self, layer: str) -> Variable:
        """Several layers as one, the same variable each time."""
        if layer not in self._joined:
            names = layer.split(JOIN)
            if len(set(names)) < len(names):
                raise DlmieError(f"{layer} names a layer twice")
            variable = join_layers({name: self[name] for name in names})
            self._mark(variable, layer)
            self._joined[layer] = variable
        return self._joined[layer]

    # A view is itself and no other, unlike other mappings: it can be a key.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __contains__(self, layer: object) -> bool:
        names = layer.split(JOIN) if isinstance(layer, str) else [layer]
        return all(name in self.variables for name in names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


class Network(View):
    """A feed-forward network: layers that can be built on any input, and one standard input.

    A subclass creates its layers, sets ``name`` and ``preprocessing``, implements ``build`` and
    then calls ``super().__init__(input)``.  ``net["conv5_3"]`` is a symbolic variable: annotations
    for a captioner, an objective for a picture; ``grad(net["fc8"][0, c], net.input)`` is a saliency
    map.
    """

    name: str
    preprocessing: Any = None
    classes: list[str] | None = None
    weights: dict[str, str] | None = (
        None  # where the weights came from: {"package" | "path", "sha256"}
    )

    _drawn: str  # what identifies weights that come from no file

    def __init__(self, input: Variable) -> None:
        if not hasattr(self, "name"):
            self.name = type(self).__name__
        super().__init__(self, input, self.build(input))

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the constructor, other than size and weights, that are not its defaults.

        They change what the layers hold, so files that depend on a network keep them.
        """
        return {}

    # *args only so that subclasses may name the options that they have.
    def build(self, x: Variable, *args: Any, **options: Any) -> dict[str, Variable]:
        """The network's variables by layer name, on input ``x``, in order from input to output."""
        raise NotImplementedError

    def on(self, x: Variable, **options: Any) -> View:
        """The same parameters applied to another input, or built with other options."""
        return View(self, x, self.build(x, **options))

    def after(self, layer: str) -> View:
        """The same parameters from the values of a layer on: the layers that follow from it alone.

        A layer with a shortcut around it, past its input, is not among them.

        ``net.after("block14")`` has an input like ``net["block14"]`` and the layers from there to
        the output, to go on from values that were kept.

        Raises
        ------
        DlmieError
            No such layer, or several joined.
        """
        if JOIN in layer:
            raise DlmieError(f"no layers follow from {layer} alone: name one layer")
        start = self[layer]
        names = list(self)
        later = names[names.index(layer) + 1 :]
        x = start.type(f"{layer} values")
        made = dict(zip(later, clone_replace([self[n] for n in later], {start: x}), strict=True))
        inner = {n: v for n, v in made.items() if self.input not in ancestors([v])}
        return View(self, x, {layer: x, **inner})

    @property
    def parameters(self) -> list[Parameter]:
        return find_parameters(self.variables.values())

    def summary(self) -> str:
        """A table of layers with shapes and parameters; what is inside a layer counts with it."""
        seen: set[Parameter] = set()
        rows = []
        for layer, variable in self.variables.items():
            if "/" in layer:  # "conv1_1/pre", "block3/expand"
                continue
            new = [p for p in find_parameters(variable) if p not in seen]
            seen.update(new)
            shape = ", ".join(
                "batch" if n is None and i == 0 else str(n or "?")
                for i, n in enumerate(variable.type.shape)
            )
            rows.append((layer, f"({shape})", f"{sum(count(p) for p in new):,}"))
        rows.append(("total", "", f"{sum(count(p) for p in seen):,}"))
        return format_table(("layer", "shape", "parameters"), rows)


def count(variable: Parameter) -> int:
    """Number of elements of a parameter."""
    return int(np.prod(variable.get_value(borrow=True).shape))


def parameter_table(title: str, parameters: Iterable[Parameter]) -> str:
    """Names, shapes and sizes of parameters, with their sum."""
    sizes = [(p, count(p)) for p in parameters]
    rows = [(str(p.name), str(tuple(p.type.shape)), f"{size:,}") for p, size in sizes]
    total = sum(size for _, size in sizes)
    head = (title, "shape", "parameters")
    return format_table(head, [*rows, ("total", "", f"{total:,}")])


def image_input(size: int | None, dtype: str = "float32", name: str = "image") -> Variable:
    """A symbolic batch of preprocessed images (batch, 3, size, size); any size when None."""
    return pt.tensor(name, dtype=dtype, shape=(None, 3, size, size))
