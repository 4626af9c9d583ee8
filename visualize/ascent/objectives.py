"""Objectives: what a picture is made to increase, as numbers that add and scale.

An :class:`Objective` is a weighted sum of terms.  A term is a function of a view of a network
(``net.on(x)``) and gives one number an image, so the same objective builds on any input, and no
image of a batch disturbs another.  Penalties (``total_variation``, ``feature_match``, …) are
positive numbers: subtract them.

>>> objective = unit(net["logits"], 130) - 1e-3 * total_variation()        # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import END, START, UNK
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, View

# (view, symbolic data) → (batch,)
Build = Callable[[View, list[Variable]], Variable]


@dataclass(frozen=True)
class Term:
    """One objective that is not a sum.

    Attributes
    ----------
    kind : str
        The function below that makes it.
    options : dict
        Its arguments as JSON values: what a manifest tells, and what makes the term again.
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
    options: dict[str, Any]
    build: Build
    network: Network | None = None
    data: tuple[np.ndarray, ...] = ()
    compiled: dict[str, Any] = field(default_factory=dict)
    captioner: Any = None

    @property
    def key(self) -> str:
        shapes = [(str(a.dtype), a.ndim, a.shape[0] == 1) for a in self.data]
        return json.dumps([self.kind, self.compiled, shapes], sort_keys=True)


class Objective:
    """A weighted sum of terms: one number an image, to be increased."""

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
        return network

    @property
    def model(self) -> Any:
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

    def to_json(self) -> list[Any]:
        """Weights, kinds and options; see :func:`from_json`."""
        return [[weight, term.kind, term.options] for weight, term in self.terms]


def layer_of(variable: Any) -> tuple[Network, str]:
    """The network and the layer's name of a variable ``net["layer"]``.

    Raises
    ------
    DlmieError
        It is no layer of a network.
    """
    tag = getattr(variable, "tag", None)
    network, layer = getattr(tag, "network", None), getattr(tag, "layer", None)
    if network is None or layer is None:
        raise DlmieError(f"{variable!r} is no layer of a network, such as net['block5']")
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


def network_of(model: Any) -> Network:
    """The network that reads pixels: the model itself, or a captioner's encoder."""
    if isinstance(model, Network):
        return model
    if hasattr(model, "members"):
        network: Network = model.members[0].encoder.network
        return network
    raise DlmieError(f"a picture needs a network or a captioner, not {type(model).__name__}")


def plain(index: int | Sequence[int]) -> int | list[int]:
    """An index or several as JSON values."""
    return np.asarray(index).tolist()


def _single(term: Term) -> Objective:
    return Objective([(1.0, term)])


def _vectors(layer: Variable) -> Variable:
    """(batch, channels[, rows, columns]) → mean over the places (batch, channels)."""
    return layer.mean(axis=(2, 3)) if layer.type.ndim == 4 else layer


def _channels(network: Network, layer: str) -> tuple[int, str]:
    kind = network[layer].type
    return int(kind.shape[1]), kind.dtype


def unit(layer: Variable, index: int | str | Sequence[int]) -> Objective:
    """A unit of a layer of units, such as a class's logit; before a ReLU.

    Parameters
    ----------
    layer : (batch, units), as ``net["logits"]``
    index : int, str or sequence of int
        A unit, or one for each image; a class may be named.

    Examples
    --------
    >>> unit(net["logits"], "flamingo")                                     # doctest: +SKIP
    Objective(unit(logits, 130))
    """
    network, name = layer_of(layer)
    if layer.type.ndim != 2:
        raise DlmieError(f"{name} is a layer of maps: take channel, neuron or energy of it")
    if isinstance(index, str):
        index = int(network.class_index(index))  # type: ignore[attr-defined]
    weights = one_hot(index, *_channels(network, name), f"{network.name}'s {name}")
    return _dot("unit", network, name, weights, {"layer": name, "index": plain(index)})


def channel(layer: Variable, index: int | Sequence[int]) -> Objective:
    """The mean of a channel over all places, before a ReLU; several: one for each image."""
    network, name = layer_of(layer)
    weights = one_hot(index, *_channels(network, name), f"{network.name}'s {name}")
    return _dot("channel", network, name, weights, {"layer": name, "index": plain(index)})


def direction(layer: Variable, vector: Sequence[float] | np.ndarray) -> Objective:
    """The layer's mean projected on a direction in the space of its channels: ``mean_ij v·φ_ij``.

    Parameters
    ----------
    vector : (channels,) or (batch, channels)
        Scaled to length 1.
    """
    network, name = layer_of(layer)
    size, dtype = _channels(network, name)
    weights = np.atleast_2d(np.asarray(vector, dtype=dtype))
    if weights.shape[1] != size:
        raise DlmieError(f"{name} has {size} channels, the direction {weights.shape[1]}")
    weights = weights / np.linalg.norm(weights, axis=1, keepdims=True).astype(dtype)
    options = {"layer": name, "vector": np.asarray(vector, float).tolist()}
    return _dot("direction", network, name, weights, options)


def _dot(
    kind: str, network: Network, layer: str, weights: np.ndarray, options: dict[str, Any]
) -> Objective:
    def build(view: View, data: list[Variable]) -> Variable:
        return (_vectors(before_activation(view, layer)) * data[0]).sum(axis=1)

    # They are all the same graph: another unit of the layer needs no compilation.
    return _single(Term(kind, options, build, network, (weights,), {"layer": layer}))


def neuron(
    layer: Variable,
    channel: int | Sequence[int],
    row: int | None = None,
    column: int | None = None,
) -> Objective:
    """One place of a channel, before a ReLU; default: the place in the middle."""
    network, name = layer_of(layer)
    if layer.type.ndim != 4:
        raise DlmieError(f"{name} is no layer of maps: take unit of it")
    weights = one_hot(channel, *_channels(network, name), f"{network.name}'s {name}")

    def check(maps: Variable, hint: str = "") -> None:
        sides = maps.type.shape[2:]
        for place, side, what in zip((row, column), sides, ("row", "column"), strict=True):
            if place is not None and side is not None and not 0 <= place < side:
                raise DlmieError(f"{name} has no {what} {place}: they are 0 to {side - 1}{hint}")

    check(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        maps = before_activation(view, name)
        check(maps, " for images of this size; take larger ones")
        i = maps.shape[2] // 2 if row is None else row
        j = maps.shape[3] // 2 if column is None else column
        return (maps[:, :, i, j] * data[0]).sum(axis=1)

    options = {"layer": name, "channel": plain(channel), "row": row, "column": column}
    compiled = {"layer": name, "row": row, "column": column}
    return _single(Term("neuron", options, build, network, (weights,), compiled))


def energy(layer: Variable) -> Objective:
    """``½ ‖φ‖² / size``: whatever the layer sees, more of it (DeepDream)."""
    network, name = layer_of(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        y = view[name]
        return np.asarray(0.5, y.type.dtype) * pt.sqr(y).mean(axis=tuple(range(1, y.type.ndim)))

    return _single(Term("energy", {"layer": name}, build, network, (), {"layer": name}))


def feature_match(
    layer: Variable,
    target: np.ndarray,
    *,
    relative: bool = True,
    channels: Sequence[int] | None = None,
) -> Objective:
    """Penalty ``‖φ(x) - φ₀‖²``, relative to ``‖φ₀‖²`` unless told otherwise.

    Parameters
    ----------
    target : (batch or 1, …) array
        φ₀: the layer's values to be matched.
    relative : bool
        Mahendran and Vedaldi's (2015) normalisation.
    channels : sequence of int, optional
        Only these: single filters.
    """
    network, name = layer_of(layer)
    target = np.asarray(target, dtype=layer.type.dtype)
    chosen = None if channels is None else [int(c) for c in channels]
    if chosen is not None:
        one_hot(chosen, target.shape[1], "float32", f"{network.name}'s {name}")  # checks them
        target = np.ascontiguousarray(target[:, chosen])
    axes = tuple(range(1, target.ndim))
    norm = np.sqrt(np.square(target, dtype=np.float64).sum(axis=axes))
    scale = 1 / np.maximum(norm, 1e-12) ** 2 if relative else np.ones(len(target))

    def build(view: View, data: list[Variable]) -> Variable:
        features = view[name] if chosen is None else view[name][:, chosen]
        return pt.sqr(features - data[0]).sum(axis=axes) * data[1]

    options = {"layer": name, "relative": relative, "channels": chosen}
    data = (target, scale.astype(target.dtype))
    compiled = {"layer": name, "channels": chosen}
    return _single(Term("feature_match", options, build, network, data, compiled))


def resemblance(layer: Variable, guide: np.ndarray) -> Objective:
    """Mean over places of ``max_g φ·g`` over the guide's places: guided dreams (Mordvintsev 2015).

    Parameters
    ----------
    guide : (channels, rows, columns)
        The layer's values for another image.
    """
    network, name = layer_of(layer)
    vectors = np.ascontiguousarray(guide.reshape(guide.shape[0], -1), dtype=layer.type.dtype)

    def build(view: View, data: list[Variable]) -> Variable:
        rows = view[name].flatten(3).transpose(0, 2, 1)  # (batch, places, channels)
        return pt.matmul(rows, data[0]).max(axis=2).mean(axis=1)

    term = Term("resemblance", {"layer": name}, build, network, (vectors,), {"layer": name})
    return _single(term)


def gram(features: Variable, normalize: bool = True) -> Variable:
    """Gram matrices (batch, C, C) of features (batch, C, H, W): ``F Fᵀ / (H·W·C)``."""
    rows = features.flatten(3)  # (batch, C, H·W)
    product = pt.matmul(rows, rows.transpose(0, 2, 1))
    if not normalize:
        return product
    return product / pt.cast(rows.shape[1] * rows.shape[2], rows.type.dtype)


def style_match(layer: Variable, target: np.ndarray, *, relative: bool = False) -> Objective:
    """Penalty ``Σ (G(x) - A)²`` between Gram matrices (Gatys et al. 2016).

    Parameters
    ----------
    target : (batch or 1, C, C)
        A: the Gram matrices of the style (see :func:`gram`).
    relative : bool
        Divide by ``Σ A²``: the weights of layers then mean the same in every network.
    """
    network, name = layer_of(layer)
    target = np.asarray(target, dtype=layer.type.dtype)
    norm = np.square(target, dtype=np.float64).sum(axis=(1, 2))
    scale = 1 / np.maximum(norm, 1e-24) if relative else np.ones(len(target))

    def build(view: View, data: list[Variable]) -> Variable:
        return pt.sqr(gram(view[name]) - data[0]).sum(axis=(1, 2)) * data[1]

    options = {"layer": name, "relative": relative}
    data = (target, scale.astype(target.dtype))
    return _single(Term("style_match", options, build, network, data, {"layer": name}))


def total_variation(beta: float = 2.0) -> Objective:
    """Penalty ``Σ_c Σ_ij ((x_{i,j+1} - x_ij)² + (x_{i+1,j} - x_ij)²)^{β/2}`` of the input.

    Differences across the border count as zero, so that β = 2 is the plain sum of all squared
    differences of neighbours.
    """
    if beta <= 0:
        raise DlmieError(f"total_variation: beta must be positive, not {beta}")

    def build(view: View, data: list[Variable]) -> Variable:
        x = view.input
        down = pt.sqr(x[:, :, 1:, :] - x[:, :, :-1, :])
        right = pt.sqr(x[:, :, :, 1:] - x[:, :, :, :-1])
        if beta == 2:
            return down.sum(axis=(1, 2, 3)) + right.sum(axis=(1, 2, 3))
        total = pt.zeros_like(x)
        total = pt.inc_subtensor(total[:, :, :-1, :], down)
        total = pt.inc_subtensor(total[:, :, :, :-1], right)
        tiny = np.asarray(1e-8, x.type.dtype)  # the root has no derivative at 0
        return ((total + tiny) ** np.asarray(beta / 2, x.type.dtype)).sum(axis=(1, 2, 3))

    return _single(Term("total_variation", {"beta": beta}, build, compiled={"beta": beta}))


def alpha_norm(alpha: float = 6.0) -> Objective:
    """Penalty ``Σ |x|^α`` of the input, whose zero is the mean colour."""

    def build(view: View, data: list[Variable]) -> Variable:
        x = view.input
        power = pt.sqr(x) if alpha == 2 else abs(x) ** np.asarray(alpha, x.type.dtype)
        return power.sum(axis=(1, 2, 3))

    return _single(Term("alpha_norm", {"alpha": alpha}, build, compiled={"alpha": alpha}))


def evidence(layer: Variable) -> Objective:
    """``log Σ_k exp(y_k)`` of a layer of logits: how sure the image shows any class at all.

    A classifier's logits define a density of images, and this is its logarithm but for a constant
    (Grathwohl et al. 2020, equation 6): more of it, and an image is more like a photograph.

    Parameters
    ----------
    layer : (batch, classes), as ``net["logits"]``
    """
    network, name = layer_of(layer)

    def build(view: View, data: list[Variable]) -> Variable:
        return pt.logsumexp(view[name], axis=1)

    return _single(Term("evidence", {"layer": name}, build, network, (), {"layer": name}))


def caption_log_likelihood(
    model: Any,
    layer: Variable,
    tokens: np.ndarray,
    position: int | None = None,
    annotations: Callable[[View], Variable] | None = None,
) -> Objective:
    """``log p(sentence | image)`` of a captioner, through its decoder, attention and encoder.

    Parameters
    ----------
    model : Captioner
        Its symbolic ``loss(features, tokens)["each"]`` is (time, batch).
    layer : symbolic variable
        The encoder's layer that the captioner reads: ``net["block10"]``.
    tokens : (batch or 1, time + 1) int32
        Word numbers with start and end.
    position : int, optional
        Only the log-probability of this word (0: the first), given those before it.
    annotations : callable, optional
        What the captioner sees of a view of the network, if more than the layer.
    """
    network, name = layer_of(layer)
    tokens = np.atleast_2d(np.asarray(tokens, dtype=np.int32))
    if position is not None and not 0 <= position < tokens.shape[1] - 1:
        raise DlmieError(f"the sentence has no word {position}")
    counted = np.ones((1, tokens.shape[1] - 1), model.dtype)
    if position is not None:
        counted = one_hot(position, tokens.shape[1] - 1, model.dtype, "the sentence")

    def build(view: View, data: list[Variable]) -> Variable:
        features = view[name] if annotations is None else annotations(view)
        words = data[0] + pt.zeros((features.shape[0], 1), dtype="int32")
        each = model.loss(features, words).each  # (time, batch)
        return -(each.T * data[1]).sum(axis=1)

    options = {"tokens": tokens.tolist(), "position": position}
    # Which word counts is data: each word of a caption needs no compilation of its own.
    compiled = {"model": id(model), "layer": name}
    return _single(Term("caption", options, build, network, (tokens, counted), compiled))


def says(captioner: Any, sentence: str, position: int | None = None) -> Objective:
    """``log p(sentence | image)`` of a captioner, or of one of its words given those before.

    Parameters
    ----------
    captioner : ImageCaptioner
        From :func:`dlmie.load`; of an ensemble, its first model.
    sentence : str
    position : int, optional
        Of the word (0: the first).

    Raises
    ------
    DlmieError
        The sentence has no words, or some that the captioner does not know.

    Examples
    --------
    >>> says(dlmie.load("flickr8k"), "a dog is running")                    # doctest: +SKIP
    Objective(says(a dog is running))
    """
    words = captioner.vocabulary.tokenize(sentence)
    if not words:
        raise DlmieError("the sentence has no words")
    ids = captioner.vocabulary.encode(words)
    unknown = [word for word, number in zip(words, ids, strict=True) if number == UNK]
    if unknown:
        raise DlmieError(f"the captioner does not know the words {', '.join(unknown)}")
    member = captioner.members[0]
    layer = member.encoder.network[member.encoder.layer]
    likelihood = caption_log_likelihood(
        member.model,
        layer,
        np.array([[START, *ids, END]], np.int32),
        position,
        member.encoder.annotations,
    )
    ((_, term),) = likelihood.terms
    options = {"sentence": sentence, "position": position}
    compiled = {**term.compiled, "average_flip": member.encoder.average_flip}
    return _single(
        replace(term, kind="says", options=options, compiled=compiled, captioner=captioner)
    )


def depicts(captioner: Any, sentence: str) -> Objective:
    """What makes a picture of a sentence: the captioner says it, and the encoder sees something.

    ``1/n log p(sentence | image) + 0.1 log Σ_k exp(y_k)`` with n words, the end counted, and the
    logits y of the captioner's encoder.  The captioner alone is content with textures; see
    :func:`says` and :func:`evidence`.

    Examples
    --------
    >>> depicts(dlmie.load("flickr8k"), "a dog is running")                 # doctest: +SKIP
    Objective(0.2 × says(a dog is running) + 0.1 × evidence(logits))
    """
    spoken = says(captioner, sentence)
    words = len(captioner.vocabulary.tokenize(sentence)) + 1
    return (1 / words) * spoken + 0.1 * evidence(network_of(captioner)["logits"])


# What a manifest may name: terms that are made again from JSON alone.
_MAKERS: dict[str, Callable[..., Objective]] = {
    "unit": unit,
    "channel": channel,
    "neuron": neuron,
    "direction": direction,
    "energy": energy,
    "evidence": evidence,
    "total_variation": total_variation,
    "alpha_norm": alpha_norm,
    "says": says,
}


def from_json(value: Sequence[Any], model: Any) -> Objective:
    """The objective that ``Objective.to_json`` described, on a network or a captioner.

    Raises
    ------
    DlmieError
        A term that holds data of another picture (features or a sentence) or is not known.
    """
    total = None
    for weight, kind, options in value:
        if kind not in _MAKERS:
            raise DlmieError(f"an objective of kind {kind!r} cannot be made again from a manifest")
        arguments = {**options}
        if "layer" in arguments:
            arguments["layer"] = network_of(model)[arguments["layer"]]
        if kind == "says":
            arguments["captioner"] = model
        term = float(weight) * _MAKERS[kind](**arguments)
        total = term if total is None else total + term
    if total is None:
        raise DlmieError("the manifest holds no objective")
    return total
