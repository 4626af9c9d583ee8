"""Trained captioners: from photographs to sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, Unpack, overload

import numpy as np

from dlmie.captioning.decoding import (
    Caption,
    Decoding,
    DecodingOptions,
    State,
    Step,
    ensemble_step,
    force,
)
from dlmie.captioning.finding import DEFAULT as DEFAULT
from dlmie.captioning.finding import SHIPPED as SHIPPED
from dlmie.captioning.finding import shipped_path
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.data.images import ImageSource
from dlmie.errors import DlmieError, WeightsError
from dlmie.typing import JsonObject

if TYPE_CHECKING:
    from dlmie.captioning.features import Encoder
    from dlmie.models.captioners.captioner import Captioner
    from dlmie.models.captioners.decoder import Decoder

Image = TypeVar("Image", bound=ImageSource)
"""What an image is given as."""


@dataclass
class Member:
    """One model of a captioner, with the header of its file."""

    model: Captioner
    header: JsonObject
    path: Path
    arrays: dict[str, np.ndarray]  # what the file holds of the encoder's weights

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    @cached_property
    def annotation_shape(self) -> tuple[int, ...]:
        """Of one image: (channels, rows, columns) or (channels,)."""
        return self.model.annotation_shape

    @cached_property
    def decoder(self) -> Decoder:
        """The model compiled for decoding, with the weights that it has now."""
        return self.model.fixed_decoder

    @property
    def encoder_header(self) -> JsonObject:
        """What identifies the encoder; a model that was saved without one has annotations only."""
        header: JsonObject | None = self.header.get("encoder")
        if header is None:
            raise WeightsError(
                f"{self.path} names no encoder, so it cannot see photographs: save the model "
                "with the header of its encoder"
            )
        return header

    @property
    def average_flip(self) -> bool:
        """Whether the model sees the mean of a photograph and its mirror image: see Encoder."""
        return bool((self.header.get("encoder") or {}).get("average_flip"))

    @cached_property
    def tuned(self) -> bool:
        """Whether the file brings along weights of the encoder."""
        return bool(self.arrays)

    @property
    def finetuned(self) -> str | None:
        """The first layer of the encoder that was trained together with the model, if any."""
        return (self.header.get("encoder") or {}).get("finetuned")

    @cached_property
    def encoder(self) -> Encoder:
        """The compiled encoder; weights that training changed come from the model's own file."""
        from dlmie.captioning.features import Encoder, encoder_from_header

        header = self.encoder_header
        network = encoder_from_header(header, self.arrays, self.path)
        return Encoder(network, header["layer"], average_flip=self.average_flip, fixed=True)

    @property
    def source(self) -> str:
        """What :func:`load` takes for this model: a shipped name, a run folder or a file."""
        for name, file in SHIPPED.items():
            if self.path == shipped_path(file):
                return name
        return str(self.path.parent if self.path.name == "best.h5" else self.path)


class ImageCaptioner:
    """From photographs to sentences: one trained model, or an ensemble of several.

    Examples
    --------
    >>> captioner = dlmie.load("runs/sat")                              # doctest: +SKIP
    >>> best, *others = captioner("dog.jpg", beam=5, n_best=3)          # doctest: +SKIP
    >>> best.text, best.log_probability, best.alphas.shape              # doctest: +SKIP
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        first = self.members[0]
        for other in self.members[1:]:
            first.vocabulary.check_matches(other.vocabulary, str(other.path))

    @property
    def model(self) -> Captioner:
        """The (first) model: its symbolic graph and parameters."""
        return self.members[0].model

    @property
    def header(self) -> JsonObject:
        """What the (first) model's file says of it."""
        return self.members[0].header

    @property
    def vocabulary(self) -> Vocabulary:
        return self.members[0].vocabulary

    def decoding(self, **options: Unpack[DecodingOptions]) -> Decoding:
        """How captions are found: as the (first) model's file says, but for the options given.

        Parameters
        ----------
        **options
            Fields of :class:`~dlmie.captioning.decoding.Decoding`.

        Raises
        ------
        DlmieError
            The options exclude each other, or what the file says.
        """
        own, path = self.header.get("decoding") or {}, self.members[0].path
        try:
            Decoding(**own)
        except (TypeError, DlmieError) as error:
            raise WeightsError(
                f"{path} has a damaged description of its decoding ({error})"
            ) from error
        try:
            chosen: JsonObject = {**own, **options}
            return Decoding(**chosen)
        except DlmieError as error:
            said = ", ".join(f"{name} {value}" for name, value in own.items())
            raise DlmieError(f"{error} ({path} says: {said})" if own else str(error)) from error

    def features(self, images: Sequence[ImageSource]) -> list[np.ndarray]:
        """Annotations of photographs, one array for each model."""
        done: dict[str, np.ndarray] = {}
        result = []
        for member in self.members:
            key = _feature_key(member)
            if key not in done:
                done[key] = member.encoder.photographs(images)
            result.append(done[key])
        return result

    def step(self, features: Sequence[np.ndarray]) -> tuple[Step, State]:
        """The step function of a search over images, and their first state."""
        begun = [member.decoder.begin(x) for member, x in zip(self.members, features, strict=True)]
        if len(begun) == 1:
            return begun[0]
        return ensemble_step([step for step, _ in begun]), tuple(state for _, state in begun)

    def decode(
        self, features: Sequence[np.ndarray], decoding: Decoding, keys: Sequence[int] | None = None
    ) -> list[list[Caption]]:
        """The captions of images by their annotations, for each image the best first."""
        captions = decoding(*self.step(features), keys)
        for image in captions:
            for caption in image:
                self._finish(caption)
        return captions

    def _finish(self, caption: Caption) -> None:
        caption.tokens = self.vocabulary.decode(caption.words)
        caption.text = self.vocabulary.text(caption.words)
        alphas = caption.extras.get("alphas")
        if alphas is not None and alphas.ndim == 2:  # cells of a row-major grid
            rows, columns = self.members[0].annotation_shape[1:]
            caption.extras["alphas"] = alphas.reshape(len(alphas), rows, columns)

    @overload
    def __call__(self, image: ImageSource, **options: Unpack[DecodingOptions]) -> list[Caption]: ...
    @overload
    def __call__(
        self, image: list[Image] | tuple[Image, ...], **options: Unpack[DecodingOptions]
    ) -> list[list[Caption]]: ...

    def __call__(
        self,
        image: ImageSource | list[Image] | tuple[Image, ...],
        **options: Unpack[DecodingOptions],
    ) -> list[Caption] | list[list[Caption]]:
        """Caption one photograph, or a list of them.

        Parameters
        ----------
        image
            Anything :func:`~dlmie.data.images.load_image` reads, or a list of such.
        **options
            Fields of :class:`~dlmie.captioning.decoding.Decoding`: ``beam``, ``n_best``,
            ``length_norm``, …  Others are as the model's file says.

        Returns
        -------
        list of Caption
            Best first; for a list of photographs, a list of such lists.
        """
        decoding = self.decoding(**options)
        if isinstance(image, (list, tuple)):
            return self.decode(self.features(image), decoding)
        return self.decode(self.features([image]), decoding)[0]

    def force(self, image: ImageSource, sentence: str) -> Caption:
        """Say a given sentence about a photograph: its log-probability and attention."""
        words = self.vocabulary.encode(self.vocabulary.tokenize(sentence))
        if not words:
            raise DlmieError("the sentence has no words")
        step, state = self.step(self.features([image]))
        caption = force(step, state, [words])[0]
        self._finish(caption)
        return caption


def _feature_key(member: Member) -> str:
    tuned = str(member.path) if member.tuned else ""  # an encoder trained with the captioner
    return json.dumps([member.encoder_header, tuned], sort_keys=True)
