"""Weight files of other programs → parameters of our networks, all of them checked first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlmie.data.images import Preprocessing
from dlmie.errors import WeightsError

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


@dataclass(frozen=True)
class Layout:
    """How one program names and orders the weights of a network.

    Attributes
    ----------
    rules
        Together they give every parameter of the network.
    preprocessing
        What networks trained by that program expect of their input.
    ignored
        Tells the arrays that a file of this layout may hold although the network has no use for
        them.
    advice
        What else to try, for the message about a file that does not fit.
    """

    rules: Sequence[Rule]
    preprocessing: Preprocessing
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


def caffe(
    size: int, mean: tuple[float, float, float] = (103.939, 116.779, 123.68)
) -> Preprocessing:
    """Of the networks that were trained with Caffe: BGR minus the mean pixel."""
    return Preprocessing(size, mean=mean, channels="BGR")


def torchvision(size: int) -> Preprocessing:
    """Of torchvision's networks: RGB, normalized by mean and deviation of pixels in 0..1."""
    return Preprocessing(
        size,
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(255 * 0.229, 255 * 0.224, 255 * 0.225),
    )
