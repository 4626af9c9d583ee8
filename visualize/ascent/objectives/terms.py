"""An objective as a weighted sum of terms, and what terms share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.errors import DlmieError
from dlmie.graph.network import Network, View
from dlmie.typing import JsonObject
from dlmie.visualize.ascent.models import ImageCaptioner, Model, with_preprocessing

# (view, symbolic data) → (batch,)
Build: TypeAlias = Callable[[View, list[Variable]], Variable]


@dataclass(frozen=True)
class Term:
    """One objective that is not a sum.

    Attributes
    ----------
    kind : str
        The function below that makes it.
    options : dict
        Its arguments as JSON values: what a manifest holds to make the term again.
    build : callable
        (view, symbolic data) → (batch,).
    network : Network or None
        Whose layer it is; None for terms of the image alone.
    data : arrays
        Handed to the compiled function at each call, not compiled into it, so that another class
        or another photograph needs no compilation.  A first axis of length 1 serves all images.
    compiled : dict
        The options that are part of the graph.
    captioner : ImageCaptioner or None
        Whose sentence it is about.
    """

    kind: str
    options: JsonObject
    build: Build
    network: Network | None = None
    data: tuple[np.ndarray, ...] = ()
    compiled: JsonObject = field(default_factory=dict)
    captioner: ImageCaptioner | None = None

    @property
    def key(self) -> str:
        shapes = [(str(a.dtype), a.ndim, a.shape[0] == 1) for a in self.data]
        return json.dumps([self.kind, self.compiled, shapes], sort_keys=True)


class Objective:
    """A weighted sum of terms: one number per image, to be increased."""

    def __init__(self, terms: Sequence[tuple[float, Term]]) -> None:
        self.terms = tuple(terms)

    @property
    def network(self) -> Network:
        """The network whose layers are meant."""
        networks = {id(t.network): t.network for _, t in self.terms if t.network is not None}
        if len(networks) != 1:
            raise DlmieError(
                "an objective needs a layer of a network, such as channel(net['block5'], 17)"
                if not networks
                else "all terms of an objective must look at the same network"
            )
        (network,) = networks.values()
        return with_preprocessing(network)

    @property
    def model(self) -> Model:
        """The captioner that a term is about, else the network: what a manifest names."""
        captioners = [t.captioner for _, t in self.terms if t.captioner is not None]
        return captioners[0] if captioners else self.network

    @property
    def averages_flip(self) -> bool:
        """Whether a captioner that sees the mean of image and mirror image is asked."""
        return any(term.compiled.get("average_flip") for _, term in self.terms)

    def data_inputs(self) -> list[Variable]:
        """Symbolic variables for the data of all terms, in order."""
        return [
            pt.tensor(
                f"data{i}",
                dtype=str(a.dtype),
                shape=(1 if a.shape[0] == 1 else None, *[None] * (a.ndim - 1)),
            )
            for i, a in enumerate(self.data)
        ]

    @property
    def data(self) -> list[np.ndarray]:
        """The arrays that belong to :meth:`data_inputs`."""
        return [a for _, term in self.terms for a in term.data]

    @property
    def key(self) -> str:
        """Equal for objectives that compile to the same function."""
        return json.dumps([(weight, term.key) for weight, term in self.terms])

    def on(self, view: View, data: Sequence[Variable] | None = None) -> Variable:
        """The objective on a view of the network: (batch,).

        Parameters
        ----------
        view : View
            The network itself, or ``net.on(x)``.
        data : list of symbolic variables, optional
            Those of :meth:`data_inputs`; default: the values as constants.
        """
        remaining = list(self.data_as_constants() if data is None else data)
        total = None
        for weight, term in self.terms:
            mine, remaining = remaining[: len(term.data)], remaining[len(term.data) :]
            value = term.build(view, mine)
            if weight != 1:
                value = np.asarray(weight, value.type.dtype) * value
            total = value if total is None else total + value
        assert total is not None
        return total

    def data_as_constants(self) -> list[Variable]:
        """The data as constants of the graph."""
        return [pt.as_tensor_variable(a) for a in self.data]

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Objective([*self.terms, *other.terms])

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, (int, float, np.number)):
            return NotImplemented
        return Objective([(weight * float(factor), term) for weight, term in self.terms])

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Objective:
        return self * (1 / divisor)

    def __neg__(self) -> Objective:
        return self * -1

    def __sub__(self, other: Objective) -> Objective:
        return self + -other

    def __str__(self) -> str:
        text = ""
        for weight, term in self.terms:
            sign = ("-" if weight < 0 else "") if not text else (" - " if weight < 0 else " + ")
            factor = "" if abs(weight) == 1 else f"{abs(weight):g} × "
            options = ", ".join(f"{v}" for v in term.options.values() if v is not None)
            text += f"{sign}{factor}{term.kind}({options})"
        return text

    def __repr__(self) -> str:
        return f"Objective({self})"

    def to_json(self) -> list[tuple[float, str, JsonObject]]:
        """Weights, kinds and options; see :func:`from_json`."""
        return [(weight, term.kind, term.options) for weight, term in self.terms]


def check_objective(thing: object) -> Objective:
    """An objective as it is; a DlmieError for anything else, such as a layer alone."""
    if not isinstance(thing, Objective):
        raise DlmieError(
            f"expected an objective, such as channel(net['block5'], 17), not {type(thing).__name__}"
        )
    return thing


def layer_of(variable: Variable) -> tuple[Network, str]:
    """The network and the layer's name of a variable ``net["layer"]``.

    Raises
    ------
    DlmieError
        It is not a layer of a network.
    """
    tag = getattr(variable, "tag", None)
    network, layer = getattr(tag, "network", None), getattr(tag, "layer", None)
    if network is None or layer is None:
        raise DlmieError(f"{variable!r} is not a layer of a network, such as net['block5']")
    return network, layer


def before_activation(view: View, layer: str) -> Variable:
    """The layer before its ReLU where it has one: a dead unit still has a gradient there."""
    name = f"{layer}/pre"
    return view[name] if name in view else view[layer]


def one_hot(index: int | Sequence[int], size: int, dtype: str, what: str) -> np.ndarray:
    """(n, size) for n indices; raises DlmieError for one that is not there."""
    chosen = np.atleast_1d(np.asarray(index, dtype=np.int64))
    if chosen.min() < 0 or chosen.max() >= size:
        bad = chosen[(chosen < 0) | (chosen >= size)][0]
        raise DlmieError(f"{what} has no unit {bad}: they are 0 to {size - 1}")
    return np.eye(size, dtype=dtype)[chosen]


def plain(index: int | Sequence[int]) -> int | list[int]:
    """An index or several as JSON values."""
    return np.asarray(index).tolist()


def single(term: Term) -> Objective:
    """The objective of one term."""
    return Objective([(1.0, term)])
