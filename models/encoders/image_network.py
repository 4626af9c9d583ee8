"""What all networks for images share; weights from files, activations, classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from pytensor.graph.basic import Variable

from dlmie import weights
from dlmie.data.images import Preprocessing
from dlmie.errors import DataError, DlmieError, WeightsError, WeightsWarning
from dlmie.files import containers as storage
from dlmie.files.hdf5 import open_hdf5
from dlmie.graph import init
from dlmie.graph.network import Network, image_input
from dlmie.layers.options import WeightOptions
from dlmie.models.encoders import imagenet
from dlmie.models.encoders.layouts import Layout, Shape, shared_prefixes, translate
from dlmie.models.encoders.preprocessings import preprocessing_called, published_preprocessing
from dlmie.typing import Json, JsonObject

Activation: TypeAlias = Callable[[Variable], Variable]
Weights: TypeAlias = str | os.PathLike[str] | None


def first_values(
    weights: Weights, seed: int, dtype: str, W: init.Initializer | None = None
) -> WeightOptions:
    """Options of a network's layers: weights drawn by ``W``, or zero where a file gives them."""
    drawn = W if weights is None else 0.0
    return {"W": drawn, "rng": np.random.default_rng(seed), "dtype": dtype}


class ImageNetwork(Network):
    """A network from images to ``logits`` and ``probabilities``.

    ``net["conv5_3"]`` is a layer after its activation, as in the literature; ``net["conv5_3/pre"]``
    is the same before it.  A network can be rebuilt on any other input by ``net.on(x)``, and with
    another activation in place of every ReLU, as guided backpropagation and deconvolution need it:
    ``net.on(x, relu=guided)``.

    A subclass creates its layers, states what follows, and calls ``super().__init__(weights, ...)``
    at the end of its constructor.

    Parameters
    ----------
    weights : path, "packaged" or None
    size : int or None
        Height and width of the images of ``net.input``; None for any.
    classes : int
    dtype : str
    preprocessing : str, optional
        What the weights expect of images, by its name in
        :data:`~dlmie.models.encoders.preprocessings.PREPROCESSINGS`; default: what their file says,
        or what its layout and origin suggest.

    Attributes
    ----------
    minimum : int
        The least height and width of an image.
    weights : dict or None
        Where the weights came from: ``{"package": ..., "sha256": ...}``, ``{"path": ..., "sha256":
        ...}``, or None for random ones.
    """

    minimum: int
    preprocessing: Preprocessing
    package: tuple[str, Callable[[], Path]] | None = None

    def __init__(
        self,
        weights: Weights,
        *,
        size: int | None,
        classes: int,
        dtype: str = "float32",
        preprocessing: str | None = None,
    ) -> None:
        self.chosen_preprocessing = preprocessing
        if preprocessing is not None:
            self.preprocessing = preprocessing_called(preprocessing, self.preprocessing.size)
        if classes == len(imagenet.classes()):
            self.classes = list(imagenet.classes())
        super().__init__(image_input(size, dtype))
        if weights == "packaged":
            self._load_package()
        elif weights is not None:
            self.load(weights)

    def class_index(self, target: int | str) -> int:
        """The number of a class given by number or name (see ``imagenet.class_index``)."""
        outputs = self["logits"].type.shape[1]
        names = self.classes or [f"class {i}" for i in range(outputs)]
        return imagenet.class_index(target, names)

    @property
    def options(self) -> dict[str, Json]:
        name = self.chosen_preprocessing
        return {} if name is None else {"preprocessing": name}

    def head_on(self, layer: str) -> tuple[np.ndarray, np.ndarray] | None:
        """The 1×1 convolution with ReLU6 from a layer to what is pooled for the classes.

        Returns its weights (channels, units) and biases (units,); None where the network has none
        there.
        """
        return None

    def classifier(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The linear layer from what is pooled to the classes: weights (units, classes), biases.

        None where the classes are read in another way.
        """
        return None

    # Weights

    def layout(self, stored: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> Layout | None:
        """The layout of a file, by the names and shapes of its arrays; None for one we do not know.

        ``shapes`` are those of the network's parameters, by name.
        """
        raise NotImplementedError

    def from_model_file(
        self, header: JsonObject, arrays: dict[str, np.ndarray], source: Path
    ) -> tuple[JsonObject, dict[str, np.ndarray]]:
        """What a model file of dlmie holds, as :meth:`save` writes it; some take others, too."""
        return header, arrays

    known_layouts: str  # for the message where there is none

    def adapt(self, stored: Collection[str], header: Mapping[str, Json]) -> None:
        """Become the network that a file of these arrays is of, unless the user asked otherwise.

        It may leave out layers that the file lacks.  ``header`` is that of a file of dlmie, empty
        for others.
        """

    def omits(self, name: str) -> bool:
        """Whether this network was made without the parameter ``name`` of its kind."""
        return False

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take all weights from a file: one of ours, or in a layout of another program.

        Raises
        ------
        WeightsError
            The file cannot be read or does not fit: one message that names everything that is
            missing, unknown or misshapen.  The network keeps the weights it had.

        Warns
        -----
        WeightsWarning
            The file does not tell what preprocessing its network expects: names the one assumed.
        """
        digest = weights.sha256(path)
        self._assign(Path(path), digest)
        self.weights = {"path": os.fspath(path), "sha256": digest}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write all weights to a model file of dlmie, which ``load`` reads."""
        arrays = {str(p.name): p.get_value(borrow=True) for p in self.parameters}
        return storage.save(Path(path), arrays, self.header())

    def header(self) -> JsonObject:
        """What a model file says of this network beside its weights."""
        return {"network": self.name, "preprocessing": self.preprocessing.to_json()}

    def _load_package(self) -> None:
        if self.package is None:
            raise WeightsError(
                f"no package carries the weights of {self.name}: give the path of a weight file"
            )
        name, find = self.package
        path = find()
        digest = weights.sha256(path)
        self._assign(path, digest)
        self.weights = {"package": name, "sha256": digest}

    def _assign(self, path: Path, digest: str) -> None:
        if is_model_file(path):
            header, arrays = self.from_model_file(*storage.load(path), path)
            self.adapt(arrays, header)
            arrays = {name: array for name, array in arrays.items() if not self.omits(name)}
            stored = header.get("preprocessing")
            preprocessing = Preprocessing.from_json(stored) if stored else self.preprocessing
            preprocessing = replace(preprocessing, size=self.preprocessing.size)
        else:
            arrays, layout = self._recognized(weights.read(path))
            if layout is None:
                some = ", ".join(list(arrays)[:3])
                raise WeightsError(
                    f"{path} is not laid out as {self.name} knows it ({self.known_layouts}): "
                    f"it holds {some}{', …' if len(arrays) > 3 else ''}"
                )
            arrays = translate(arrays, layout, path)
            preprocessing = self._expected(layout, path, digest)
        storage.assign(self.parameters, arrays, path)
        if self.chosen_preprocessing is None:
            self.preprocessing = preprocessing

    def _recognized(
        self, arrays: dict[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], Layout | None]:
        """The arrays of a file, perhaps without what all names begin with, and their layout."""
        for prefix in shared_prefixes(arrays):
            inner = {name.removeprefix(prefix): array for name, array in arrays.items()}
            stored = {name: array.shape for name, array in inner.items()}
            shapes = {str(p.name): tuple(p.type.shape) for p in self.parameters}
            if self.layout(stored, shapes) is not None:
                self.adapt(inner, {})
                shapes = {str(p.name): tuple(p.type.shape) for p in self.parameters}
                return inner, self.layout(stored, shapes)
        return arrays, None

    def _expected(self, layout: Layout, path: Path, digest: str) -> Preprocessing:
        """What the network of a file of another program expects of its input."""
        size = layout.preprocessing.size
        if not layout.ambiguous or self.chosen_preprocessing is not None:
            return layout.preprocessing
        known = published_preprocessing(path, digest)
        if known is not None:
            return preprocessing_called(known, size)
        warnings.warn(
            f"{path} does not say what its network expects of images: torchvision's preprocessing "
            "is assumed (RGB, normalized); if it was converted from Caffe, say so: "
            "--encoder-preprocessing caffe (in Python preprocessing='caffe')",
            WeightsWarning,
            stacklevel=2,
        )
        return layout.preprocessing


def is_model_file(path: Path) -> bool:
    """Whether a file is one that ``dlmie.files.containers`` wrote, by its content."""
    try:
        with open_hdf5(path) as file:
            return "header" in file and "arrays" in file
    except DataError:  # missing, or no HDF5 file: the readers of dlmie.weights say what is wrong
        return False


def check_images(x: Variable, minimum: int, network: str) -> None:
    """Raise DlmieError unless ``x`` can be a batch of images for a network, as far as is known."""
    if x.type.ndim != 4 or x.type.shape[1] not in (None, 3):
        raise DlmieError(f"{network} needs images (batch, 3, rows, columns), not {x.type}")
    sides = [side for side in x.type.shape[2:] if side is not None]
    if sides and min(sides) < minimum:
        rows, columns = (side or "?" for side in x.type.shape[2:])
        raise DlmieError(
            f"{network} needs images of at least {minimum} × {minimum} pixels, "
            f"not {rows} × {columns}"
        )
