"""What pictures need of the models they look into: networks, classifiers and captioners.

Captioners stand above this package, so that they are described here by what is asked of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images import ImageSource, Preprocessing
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, View
from dlmie.models.captioners.captioner import Captioner
from dlmie.typing import JsonObject


@runtime_checkable
class Classifier(Protocol):
    """A network whose classes have names."""

    def class_index(self, target: int | str) -> int:
        """The number of a class by number or name."""
        ...


class Caption(Protocol):
    """A caption that a captioner found, or was given."""

    @property
    def text(self) -> str: ...
    @property
    def words(self) -> Sequence[int]: ...
    @property
    def labels(self) -> Sequence[str]:
        """The words as text, one by one."""
        ...

    @property
    def log_probability(self) -> float: ...
    @property
    def alphas(self) -> np.ndarray | None:
        """Attention (words, rows, columns) at each word, if the captioner attends."""
        ...


class CaptionEncoder(Protocol):
    """From images to what a captioner looks at."""

    @property
    def network(self) -> Network: ...
    @property
    def layer(self) -> str: ...
    @property
    def average_flip(self) -> bool:
        """Whether it is the mean over the image and its mirror image."""
        ...

    def annotations(self, view: View) -> Variable:
        """What the captioner looks at, on a view of the network."""
        ...


class CaptionerMember(Protocol):
    """One of the models of a captioner, from a file."""

    @property
    def model(self) -> Captioner: ...
    @property
    def encoder(self) -> CaptionEncoder: ...
    @property
    def source(self) -> str: ...
    @property
    def path(self) -> Path: ...


class ImageCaptioner(Protocol):
    """What :func:`dlmie.load` gives: photographs to captions."""

    @property
    def members(self) -> Sequence[CaptionerMember]: ...
    @property
    def vocabulary(self) -> Vocabulary: ...

    def __call__(self, image: ImageSource, *, n_best: int = ...) -> Sequence[Caption]:
        """Captions of a photograph, the best first."""
        ...

    def force(self, image: ImageSource, sentence: str) -> Caption:
        """The log-probability of a given sentence for a photograph."""
        ...


Model: TypeAlias = "Network | ImageCaptioner"


def network_of(model: Model) -> Network:
    """The network that reads pixels: the model itself, or a captioner's encoder.

    Raises
    ------
    DlmieError
        It is neither, or a network that does not say how it reads pixels.
    """
    if isinstance(model, Network):
        return with_preprocessing(model)
    if hasattr(model, "members"):
        return model.members[0].encoder.network
    raise DlmieError(f"a picture needs a network or a captioner, not {type(model).__name__}")


def with_preprocessing(network: Network) -> Network:
    """A network that says how pixels become its input; raises DlmieError if it does not."""
    if not isinstance(network.preprocessing, Preprocessing):
        raise DlmieError(
            f"{network.name} does not say how it reads pixels: set its preprocessing, such as "
            "dlmie.data.images.Preprocessing(224, mean=(127,) * 3, scale=(128,) * 3)"
        )
    return network


def describe_network(network: Network) -> JsonObject:
    """Name, weights and image size of a network, for manifests."""
    size = network.input.type.shape[2]
    options = {"options": network.options} if network.options else {}
    return {"name": network.name, "weights": network.weights, "size": size, **options}


def describe_model(model: Model) -> JsonObject:
    """A network; or a captioner: its encoder, and the name and hash of each of its files."""
    from dlmie.weights import sha256

    if isinstance(model, Network):
        return describe_network(model)
    files = [{"source": m.source, "sha256": sha256(m.path)} for m in model.members]
    return {**describe_network(network_of(model)), "captioner": files}
