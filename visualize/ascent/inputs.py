"""The inputs of a picture: a photograph, and a class or words that a user names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlmie.data.images import resize_image, resize_through
from dlmie.errors import DlmieError
from dlmie.graph.network import Network
from dlmie.text import suggest
from dlmie.visualize.ascent.evaluation import probabilities
from dlmie.visualize.ascent.models import (
    Classifier,
    ImageCaptioner,
    Model,
    network_of,
    with_preprocessing,
)
from dlmie.visualize.ascent.objectives import Objective, sentence_log_likelihood, unit
from dlmie.visualize.ascent.pixels import to_network


@dataclass(frozen=True)
class NamedObjective:
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
        Where the captioner looked at this word.
    """

    network: Network
    objective: Objective
    label: str
    target: int | str
    attention: np.ndarray | None = None


def image_size(network: Network) -> tuple[int, int]:
    """Rows and columns of the images that the network was made for."""
    rows, columns = network.input.type.shape[2:]
    size = with_preprocessing(network).preprocessing.size
    return rows or size, columns or size


def network_input(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, 3) as the network reads them: a batch of one, (1, 3, h, w)."""
    seen = resize_through(pixels, with_preprocessing(network).preprocessing.via)
    return to_network(resize_image(seen, image_size(network)), network)[None]


def class_name(network: Network, index: int) -> str:
    """What people call a class."""
    return network.classes[index] if network.classes else f"class {index}"


def class_index(network: Network, target: int | str) -> int:
    """The number of a class by number or name; raises DlmieError with the closest names."""
    if "logits" not in network:
        raise DlmieError(f"{network.name} was made without its classifier")
    if isinstance(network, Classifier):
        return network.class_index(target)
    return int(target)


def named_objective(
    model: Model, pixels: np.ndarray, target: int | str | None, rank: int = 0
) -> NamedObjective:
    """The class or the words that a user names, or the model's own choice, as an objective.

    Parameters
    ----------
    model : Network or captioner
    pixels : (H, W, 3) uint8
        The photograph, for the model's own choice.
    target : int, str or None
        A class by number or name; for a captioner a word of its caption, its place in the caption,
        or a whole sentence.  None: the most likely class (the ``rank``-th after it) or the whole
        caption.
    """
    network_of(model)  # a clear error for what is neither
    if not isinstance(model, Network):
        return _words(model, pixels, target)
    if target is None:
        found = probabilities(model, network_input(model, pixels))[0]
        target = int(np.argsort(-found, kind="stable")[rank])
    index = class_index(model, target)
    return NamedObjective(model, unit(model["logits"], index), class_name(model, index), index)


def _words(
    captioner: ImageCaptioner, pixels: np.ndarray, target: int | str | None
) -> NamedObjective:
    if isinstance(target, str) and len(captioner.vocabulary.tokenize(target)) > 1:
        return _sentence(captioner, target)
    caption = captioner(pixels)[0]
    words = caption.labels
    if target is None:
        return _sentence(captioner, caption.text)
    if isinstance(target, int) and not 0 <= target < len(words):
        raise DlmieError(f"the caption {caption.text!r} has words 0 to {len(words) - 1}")
    if isinstance(target, str) and target not in words:
        hint = suggest(target, dict.fromkeys(words))
        raise DlmieError(f"the caption {caption.text!r} has no word {target!r}{hint}")
    place = target if isinstance(target, int) else words.index(target)
    likelihood = sentence_log_likelihood(captioner, caption.text, place)
    attention = None if caption.alphas is None else caption.alphas[place]
    return NamedObjective(likelihood.network, likelihood, words[place], caption.text, attention)


def _sentence(captioner: ImageCaptioner, sentence: str) -> NamedObjective:
    likelihood = sentence_log_likelihood(captioner, sentence)
    return NamedObjective(likelihood.network, likelihood, sentence, sentence)
