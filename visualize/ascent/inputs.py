"""What a picture is about: a class of a network, or words of a captioner, named as users do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlmie.data.images import ImageSource, resize_through
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.objectives import Objective, network_of, says, unit
from dlmie.visualize.ascent.pixels import load_pixels, to_network


@dataclass(frozen=True)
class Subject:
    """An objective with the words for it.

    Attributes
    ----------
    network : Network
        That reads the pixels.
    objective : Objective
    label : str
        For titles: ``"Egyptian cat"``.
    target : int or str
        What names it in a manifest.
    attention : (rows, columns) or None
        Where the captioner looked when it said this word.
    """

    network: Network
    objective: Objective
    label: str
    target: int | str
    attention: np.ndarray | None = None


def image_size(network: Network) -> tuple[int, int]:
    """Rows and columns of the images that the network was made for."""
    rows, columns = network.input.type.shape[2:]
    size = network.preprocessing.size
    return rows or size, columns or size


def read_image(network: Network, image: ImageSource) -> tuple[np.ndarray, np.ndarray]:
    """An image as pixels (H, W, 3) at the size it has, and as the network reads it (1, 3, h, w)."""
    pixels = load_pixels(image)
    seen = resize_through(pixels, network.preprocessing.via)
    return pixels, to_network(load_pixels(seen, image_size(network)), network)[None]


def class_name(network: Network, index: int) -> str:
    """What people call a class."""
    return network.classes[index] if network.classes else f"class {index}"


def class_index(network: Network, target: int | str) -> int:
    """The number of a class by number or name; raises DlmieError with the closest names."""
    if "logits" not in network:
        raise DlmieError(f"{network.name} was made without its classifier")
    if hasattr(network, "class_index"):
        return int(network.class_index(target))
    return int(target)


def choose(model: Any, image: ImageSource, target: int | str | None, rank: int = 0) -> Subject:
    """The subject that a user names, or the model's own choice.

    Parameters
    ----------
    model : Network or captioner
    image
        To see what the model makes of it.
    target : int, str or None
        A class by number or name; for a captioner a word of its caption, its place in the caption,
        or a whole sentence.  None: the most likely class (the ``rank``-th after it) or the whole
        caption.
    """
    network = network_of(model)
    if network is not model:
        return _words(model, image, target)
    if target is None:
        _, x = read_image(network, image)
        target = int(np.argsort(-probabilities(network, x)[0], kind="stable")[rank])
    index = class_index(network, target)
    return Subject(network, unit(network["logits"], index), class_name(network, index), index)


def _words(captioner: Any, image: ImageSource, target: int | str | None) -> Subject:
    if isinstance(target, str) and len(captioner.vocabulary.tokenize(target)) > 1:
        return _sentence(captioner, target)
    caption = captioner(load_pixels(image))[0]
    words = caption.labels
    if target is None:
        return _sentence(captioner, caption.text)
    if isinstance(target, int) and not 0 <= target < len(words):
        raise DlmieError(f"the caption {caption.text!r} has words 0 to {len(words) - 1}")
    if isinstance(target, str) and target not in words:
        hint = suggest(target, words)
        raise DlmieError(f"the caption {caption.text!r} has no word {target!r}{hint}")
    place = target if isinstance(target, int) else words.index(target)
    said = says(captioner, caption.text, place)
    alphas = getattr(caption, "alphas", None)
    attention = None if alphas is None else alphas[place]
    return Subject(said.network, said, words[place], caption.text, attention)


def _sentence(captioner: Any, sentence: str) -> Subject:
    said = says(captioner, sentence)
    return Subject(said.network, said, sentence, sentence)
