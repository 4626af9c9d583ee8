"""The network of the cs231n visualization assignment, trained on labeled images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pytensor.graph.basic import Variable

from dlmie.data.labelled.normalization import Normalization
from dlmie.errors import DlmieError
from dlmie.layers import Noise
from dlmie.layers.sequential import Updates
from dlmie.models.classifiers.image_classifier import Config, ImageClassifier
from dlmie.models.classifiers.network import sizes_of
from dlmie.models.encoders.tiny_imagenet import PretrainedCNN

SIZE = 64  # rows and columns of the images


class TinyImageNetCNN(ImageClassifier):
    """:class:`~dlmie.models.encoders.tiny_imagenet.PretrainedCNN`, to be trained.

    With ``normalization`` per-channel its model file gives weights to that encoder:
    ``--encoder tiny-imagenet --encoder-weights runs/tiny/best.h5`` in every command that draws
    what a network sees.

    Parameters
    ----------
    shape, classes, normalization, regularization, seed, dtype
        See :class:`~dlmie.models.classifiers.image_classifier.ImageClassifier`; images of 64 × 64
        pixels in color.
    stages : sequence of 5 int, or text
        Filters of the convolutions 0-1, 2-3, 4-5, 6-7 and 8.
    hidden : int
        Units of the first affine layer.
    keep : float
        Probability by which dropout keeps what the affine layers read; 1 for none, as the course.

    Raises
    ------
    DlmieError
        Other images, or an option out of its range.
    """

    kind = "tiny-imagenet-cnn"

    def __init__(
        self,
        shape: Sequence[int],
        classes: Sequence[str],
        *,
        normalization: Normalization | None = None,
        stages: Sequence[int] | str = (64, 128, 256, 512, 1024),
        hidden: int = 512,
        keep: float = 1.0,
        regularization: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(
            shape,
            classes,
            normalization=normalization,
            regularization=regularization,
            seed=seed,
            dtype=dtype,
        )
        self.stages, (self.hidden,) = sizes_of("stages", stages), sizes_of("hidden", [hidden])
        if len(self.stages) != 5:
            raise DlmieError(f"stages of {self.kind} are five numbers, not {self.stages}")
        if not 0 < keep <= 1:
            raise DlmieError(f"keep is {keep}; it must be above 0 and at most 1")
        if self.inputs != (3, SIZE, SIZE):
            raise DlmieError(
                f"{self.kind} learns from color images of {SIZE} × {SIZE} pixels, not from "
                f"{self.inputs}: prepare them with --size {SIZE}"
            )
        self.keep = keep
        self.network = PretrainedCNN(
            seed=seed, filters=self.stages, units=hidden, classes=len(self.classes), dtype=dtype
        )

    @property
    def config(self) -> Config:
        return {
            "stages": self.stages,
            "hidden": self.hidden,
            "keep": self.keep,
            **super().config,
        }

    def logits(self, images: Variable) -> Variable:
        return self.network.on(images)["logits"]

    def train(self, images: Variable, noise: Noise) -> tuple[Variable, Updates]:
        return self.network.train(images, noise, self.keep)

    @property
    def templates(self) -> np.ndarray:
        """The filters of the first convolution: (filters, rows, columns, channels)."""
        return self.network.layers[0].W.get_value().transpose(0, 2, 3, 1)
