"""Where a captioner's annotations come from in training, and what of the encoder learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.backends.choice import refuse_jax
from dlmie.compilation import function
from dlmie.errors import DlmieError
from dlmie.graph.network import Network, Parameter, find_parameters
from dlmie.models.captioners.captioner import Captioner


class Annotations:
    """Annotations from kept features, or with ``finetune`` from an encoder that learns.

    Parameters
    ----------
    model : Captioner
    finetune : str, optional
        The first layer of the encoder that learns.
    from_layer : str, optional
        The layer whose values batches hold instead of images; it lies before ``finetune``.

    Attributes
    ----------
    input : variable
        What batches hold: (batch, …).
    features : variable
        What the captioner sees of it: (batch, *annotation_shape).

    Raises
    ------
    DlmieError
        The layers do not fit: the message names them and what to choose instead.
    """

    def __init__(
        self, model: Captioner, *, finetune: str | None = None, from_layer: str | None = None
    ) -> None:
        if from_layer is not None and finetune is None:
            raise DlmieError(
                f"values of {from_layer} are to fine-tune from: say from which layer on (finetune)"
            )
        if finetune is not None:
            refuse_jax("training the encoder (--finetune)")
        self.model, self.finetune, self.from_layer = model, finetune, from_layer
        self.input, self.features = self._connect()

    def _connect(self) -> tuple[Variable, Variable]:
        if self.finetune is None:
            return self.model.features, self.model.features
        encoder, layer = self.encoder, self.layer
        view = encoder if self.from_layer is None else encoder.after(self.from_layer)
        if layer not in view:
            raise DlmieError(
                f"{layer} of {encoder.name}, which the captioner sees, does not follow from values "
                f"of {self.from_layer} alone: keep those of a layer before {self.finetune}"
            )
        return view.input, view[layer]

    @property
    def encoder(self) -> Network:
        """The network that learns.

        Raises
        ------
        DlmieError
            The model was made from a shape, not from a network's layer.
        """
        if self.model.encoder is None:
            raise DlmieError("to train the encoder, make the model from its layer: net[...]")
        return self.model.encoder

    @property
    def layer(self) -> str:
        """The layer that the captioner sees."""
        return str(self.model.layer)

    @property
    def takes_images(self) -> bool:
        """Whether batches hold images."""
        return self.finetune is not None and self.from_layer is None

    @cached_property
    def annotate(self) -> Callable[[np.ndarray], np.ndarray]:
        """What the model sees of a batch's inputs, through the encoder as it is now."""
        if self.finetune is None:
            return lambda inputs: inputs
        return function([self.input], self.features, name=f"{self.encoder.name} annotations")

    def tuned(self) -> set[Parameter]:
        """The encoder's parameters that learn."""
        if self.finetune is None:
            return set()
        encoder, first, last = self.encoder, self.finetune, self.layer
        encoder[first]  # a clear error for an unknown layer
        # What is inside a layer ("block3/expand") stands before it and belongs to it.
        names = list(encoder)
        start = next(i for i, n in enumerate(names) if n == first or n.startswith(f"{first}/"))
        frozen = find_parameters([encoder[n] for n in names[:start]])
        tuned = set(find_parameters(encoder[last], "trainable")) - set(frozen)
        if not tuned:
            raise DlmieError(
                f"there is nothing to train from {first} on: the captioner sees {last} of "
                f"{encoder.name}, so name this layer or one before it that has weights"
            )
        return tuned

    def frozen(self) -> set[Parameter]:
        """The parameters behind the annotations that do not learn."""
        tuned, present = self.tuned(), set(find_parameters(self.features))
        if tuned - present:
            raise DlmieError(
                f"values of {self.from_layer} are too late to train {self.finetune} of "
                f"{self.encoder.name} from: keep those of a layer before it"
            )
        return present - tuned
