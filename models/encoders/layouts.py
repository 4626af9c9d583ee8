"""Weight files of other programs → parameters of our networks, all of them checked first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlmie.data.images import Preprocessing
from dlmie.errors import WeightsError
from dlmie.layers import Conv2D, fold_batch_norm

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """Some arrays of a file that give some parameters of a network.

    Attributes
    ----------
    theirs
        Names of the arrays in the file, with the shapes that they must have.
    ours
        Names of the parameters.
    convert
        Those arrays, in that order → the values of the parameters, in theirs.
    """

    theirs: dict[str, Shape]
    ours: tuple[str, ...]
    convert: Callable[..., Sequence[np.ndarray]]


def same(theirs: str, ours: str, shape: Shape) -> Rule:
    """An array that is stored as we hold it."""
    return Rule({theirs: shape}, (ours,), lambda array: [array])


def permuted(theirs: str, ours: str, shape: Shape, axes: Sequence[int]) -> Rule:
    """An array stored with other axes: ``theirs.transpose(axes)`` has our ``shape``."""
    stored = tuple(shape[axes.index(axis)] for axis in range(len(axes)))
    return Rule({theirs: stored}, (ours,), lambda array: [array.transpose(axes)])


class Norm(NamedTuple):
    """The names of a batch norm's arrays in a file; a norm that does not scale has no gamma."""

    gamma: str | None
    beta: str
    mean: str
    variance: str


def folded(
    layer: Conv2D,
    kernel: str,
    norm: Norm,
    epsilon: float,
    axes: Sequence[int] = (0, 1, 2, 3),
) -> Rule:
    """A convolution without bias and the batch norm after it → one convolution with a bias.

    ``axes`` are as for :func:`permuted`.
    """
    assert layer.b is not None
    shape = tuple(layer.W.type.shape)
    stored = permuted(kernel, "", shape, axes).theirs
    theirs = stored | {name: (shape[0],) for name in norm if name is not None}

    def fold(W: np.ndarray, *statistics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gamma = np.ones(shape[0]) if norm.gamma is None else statistics[0]
        beta, mean, variance = statistics[-3:]
        W = np.ascontiguousarray(W.transpose(axes))
        return fold_batch_norm(W, None, gamma, beta, mean, variance, epsilon)

    return Rule(theirs, (str(layer.W.name), str(layer.b.name)), fold)


@dataclass(frozen=True)
class Layout:
    """How one program names and orders the weights of a network.

    Attributes
    ----------
    rules
        Together they give every parameter of the network.
    preprocessing
        What networks trained by that program expect of their input.
    ambiguous
        Networks of other origin come in this layout as well: ``preprocessing`` is then a guess.
    ignored
        Tells the arrays that a file of this layout may hold although the network has no use for
        them.
    advice
        What else to try, for the message about a file that does not fit.
    """

    rules: Sequence[Rule]
    preprocessing: Preprocessing
    ambiguous: bool = False
    ignored: Callable[[str], bool] = lambda name: False
    advice: str = ""


def translate(
    arrays: Mapping[str, np.ndarray], layout: Layout, source: str | os.PathLike[str]
) -> dict[str, np.ndarray]:
    """Values of the parameters, by name.

    Raises
    ------
    WeightsError
        One message that lists every missing, unknown and misshapen array of the file.
    """
    known = {name for rule in layout.rules for name in rule.theirs}
    problems = [
        f"{name} is not part of the network"
        for name in arrays
        if name not in known and not layout.ignored(name)
    ]
    for rule in layout.rules:
        for name, shape in rule.theirs.items():
            if name not in arrays:
                problems.append(f"{name} is missing")
            elif arrays[name].shape != shape:
                problems.append(f"{name} has shape {arrays[name].shape}, the network needs {shape}")
            elif arrays[name].dtype.kind != "f":
                problems.append(f"{name} holds {arrays[name].dtype}, the network needs floats")
    if problems:
        advice = f" ({layout.advice})" if layout.advice else ""
        raise WeightsError(f"{source} does not fit the network: {'; '.join(problems)}{advice}")
    found: dict[str, np.ndarray] = {}
    for rule in layout.rules:
        values = rule.convert(*(arrays[name] for name in rule.theirs))
        found.update(zip(rule.ours, values, strict=True))
    return found


def shared_prefixes(names: Iterable[str]) -> Iterator[str]:
    """What all names begin with, part by part: ``vision.``, ``vision.net.``; "" comes first.

    So a file names the weights of a network that was a part of a larger one.

    Examples
    --------
    >>> list(shared_prefixes(["net.conv1.W", "net.conv1.b"]))
    ['', 'net.', 'net.conv1.']
    """
    every = list(names)
    first, last = min(every), max(every)  # what these two begin with, all others do
    yield ""
    for end in re.finditer(r"[./]", first):
        if not last.startswith(first[: end.end()]):
            return
        yield first[: end.end()]
