"""What all captioners share: the words of a batch, the loss, and decoding one word at a time.

Glossary.  *Annotations*: the encoder's features of an image, one vector or a grid of them.
*Teacher forcing*: the true previous word is the input of each step.  *State*: arrays that change
with each word, one row for each hypothesis.  *Context*: arrays that stay, one row per image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.backends.choice import current_backend
from dlmie.compilation import function
from dlmie.data.captions.vocabulary import PAD, Vocabulary
from dlmie.errors import DlmieError
from dlmie.graph.network import Parameter, find_parameters, parameter_table
from dlmie.layers.noise import Noise
from dlmie.models.captioners.decoder import Decoder
from dlmie.ops.losses.cross_entropy import softmax_cross_entropy
from dlmie.typing import Json, JsonObject

# Keyword arguments as files of version 0.1 have them.
_FORMER = {"words": "embedding"}


def current_config(config: Mapping[str, Json]) -> JsonObject:
    """The configuration of a captioner in a file, former names replaced by those of today."""
    return {_FORMER.get(name, name): value for name, value in config.items()}


@dataclass
class Forward:
    """A teacher-forced pass: ``logits`` (time × batch, words), and what else the model shows."""

    logits: Variable
    extras: dict[str, Variable]  # time first: {"alphas": (time, batch, cells)}


@dataclass
class Extra:
    """What a model adds to its own training objective: see :meth:`Captioner.extra_loss`."""

    loss: Variable  # scalar, added to the summed loss of the batch
    updates: list[tuple[SharedVariable, Variable]]  # new values of what it remembers


@dataclass
class CaptionLoss:
    """The teacher-forced losses of a batch of captions, symbolically.

    Attributes
    ----------
    total, words : scalar
        Negative log-likelihood of all words, in nats, and their number.
    captions : scalar
        Number of captions.
    each : (time, batch)
        Negative log-likelihood of each word, 0 at padding.
    logits : (time × batch, vocabulary)
    extras : dict
        What else the forward pass shows, time first: {"alphas": (time, batch, cells)}.
    extra : Extra, optional
        The model's own term, where it has one and noise was given.
    """

    total: Variable
    words: Variable
    captions: Variable
    each: Variable
    logits: Variable
    extras: dict[str, Variable]
    extra: Extra | None = None

    @property
    def per_word(self) -> Variable:
        """Nats per word."""
        return self.total / self.words

    @property
    def per_caption(self) -> Variable:
        """Nats per caption."""
        return self.total / self.captions


class Captioner:
    """Base of the captioning models.

    A subclass names itself (``kind``), creates its layers and implements three graph constructors:
    ``forward`` for training, ``begin`` and ``advance`` for decoding.

    Parameters
    ----------
    annotations : symbolic variable or tuple of int
        The encoder's layer (``net["block10"]``) or its shape for one image: (channels, rows,
        columns) or (channels,).
    vocabulary : Vocabulary
    seed : int
        Of the first values of the parameters.
    dtype : str
        "float32" or "float64".
    """

    kind: ClassVar[str]
    task: ClassVar[str] = "captioning"
    #: Parts of the configuration that decoding follows, and training does not.
    decoding_only: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        annotations: Variable | Sequence[int],
        vocabulary: Vocabulary,
        *,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        self.vocabulary, self.dtype, self.seed = vocabulary, dtype, seed
        self.encoder = None
        self.layer: str | None = None
        if isinstance(annotations, Variable):
            self.encoder = getattr(annotations.tag, "network", None)
            self.layer = getattr(annotations.tag, "layer", None)
            shape = tuple(annotations.type.shape[1:])
        else:
            shape = tuple(annotations)
        if len(shape) not in (1, 3) or None in shape:
            raise DlmieError(
                f"a captioner needs annotations of known shape (channels,) or (channels, rows, "
                f"columns), not {shape}: build the encoder for a fixed image size"
            )
        self.annotation_shape: tuple[int, ...] = tuple(int(n) for n in shape)
        self.features = pt.tensor("features", dtype=dtype, shape=(None, *self.annotation_shape))
        self.tokens = pt.tensor("tokens", dtype="int32", shape=(None, None))  # (batch, time + 1)

    @classmethod
    def copies_encoder(cls, config: Mapping[str, Json]) -> bool:
        """Whether a new model of this configuration takes weights from its encoder."""
        return False

    @property
    def copied(self) -> list[Parameter]:
        """Parameters that were copied from the encoder and do not learn."""
        return []

    @property
    def measured(self) -> list[Parameter]:
        """Parameters that were measured on training images and do not learn."""
        return []

    def measure(self, read: Callable[[], np.ndarray]) -> None:
        """Measure them, unless that has been done; training calls it before the first step.

        Parameters
        ----------
        read : callable
            Reads the annotations of some training images: (images, channels, rows, columns).
        """

    # What a subclass provides.

    @property
    def config(self) -> dict[str, Json]:
        """The keyword arguments that make an equal model."""
        raise NotImplementedError

    def forward(self, features: Variable, words: Variable, noise: Noise | None = None) -> Forward:
        """Teacher forcing: features (batch, …), words (time, batch) → logits of the next words."""
        raise NotImplementedError

    def begin(self, features: Variable) -> tuple[list[Variable], list[Variable]]:
        """State and context before the first word, (batch, …) each."""
        raise NotImplementedError

    def advance(
        self, words: Variable, state: Sequence[Variable], context: Sequence[Variable]
    ) -> tuple[Variable, list[Variable], dict[str, Variable]]:
        """One step: words (rows,), state (rows, …), context (images, …), rows = images × beams.

        Returns log-probabilities (rows, vocabulary), the new state and extras (rows, …).
        """
        raise NotImplementedError

    def extra_loss(self, forward: Forward, losses: Variable, mask: Variable) -> Extra | None:
        """A term of the training objective that is not a likelihood; None for most models.

        Parameters
        ----------
        forward : Forward
            A pass with noise.
        losses, mask : (time, batch)
            Negative log-likelihood of each word, 0 at padding; 1 for words and 0 at padding.
        """
        return None

    # What every captioner can do.

    def annotations(self, features: Variable) -> Variable:
        """A grid (images, channels, rows, columns) → (images, cells, channels), row by row."""
        # Of any number of cells: pictures may be of another size than those it was trained on.
        return features.flatten(3).dimshuffle(0, 2, 1)

    def mean_annotation(self, features: Variable) -> Variable:
        """(images, channels[, rows, columns]) → (images, channels)."""
        if len(self.annotation_shape) == 1:
            return features
        return features.mean(axis=(2, 3), dtype=self.dtype)

    def loss(
        self,
        features: Variable | None = None,
        tokens: Variable | None = None,
        *,
        noise: Noise | None = None,
        label_smoothing: float = 0.0,
        scheduled_sampling: float = 0.0,
    ) -> CaptionLoss:
        """The losses of a batch of captions, teacher-forced.

        Parameters
        ----------
        features, tokens : symbolic, optional
            Default: the model's own inputs.
        noise : Noise, optional
            Source of dropout: given, this is the training expression; None, the test expression.
        label_smoothing : float
            Share of the target's probability that is spread over all words.
        scheduled_sampling : float
            Share of the words read that are the model's own most likely ones, not the true ones
            (Bengio et al. 2015, in the two-pass form of Mihaylova and Martins 2019); needs noise.
        """
        features = self.features if features is None else features
        tokens = self.tokens if tokens is None else tokens
        words = tokens[:, :-1].T  # (time, batch)
        if scheduled_sampling and noise is not None:
            words = self._mix_in_own_words(features, words, scheduled_sampling, noise)
        forward = self.forward(features, words, noise)
        targets = tokens[:, 1:].T.flatten()  # (time × batch,)
        mask = pt.cast(pt.neq(targets, PAD), self.dtype)
        losses = softmax_cross_entropy(
            forward.logits, targets, mask, label_smoothing=label_smoothing
        )
        each, present = losses.reshape(words.shape), mask.reshape(words.shape)
        return CaptionLoss(
            total=losses.sum(),
            words=mask.sum(),
            captions=pt.cast(tokens.shape[0], self.dtype),
            each=each,
            logits=forward.logits,
            extras=forward.extras,
            extra=None if noise is None else self.extra_loss(forward, each, present),
        )

    def _mix_in_own_words(
        self, features: Variable, words: Variable, share: float, noise: Noise
    ) -> Variable:
        """Replace a random share of ``words`` (time, batch), not the first, by predicted ones."""
        logits = disconnected_grad(self.forward(features, words).logits)
        own = pt.cast(logits.argmax(axis=1), "int32").reshape(words.shape)
        shifted = pt.concatenate([words[:1], own[:-1]], axis=0)
        template = pt.zeros(words.shape, dtype=self.dtype)
        chosen = noise.bernoulli_like(template, share)
        mixed = pt.switch(chosen > 0, shifted, words)
        mixed = pt.switch(pt.eq(words, PAD), words, mixed)
        return pt.concatenate([words[:1], mixed[1:]], axis=0)

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The decoder's parameters by name (the encoder keeps its own)."""
        found = {*find_parameters(self.loss().total), *self.copied}  # some serve decoding alone
        return sorted(found, key=lambda parameter: str(parameter.name))

    @cached_property
    def loss_function(self) -> Callable[[np.ndarray, np.ndarray], list[np.ndarray]]:
        """Compiled test loss: (features, tokens) → negative log-likelihood, number of words."""
        out = self.loss()
        return function(
            [self.features, self.tokens], [out.total, out.words], name=f"{self.kind} loss"
        )

    @cached_property
    def decoder(self) -> Decoder:
        """The compiled step by step decoder."""
        return self._make_decoder(fixed=False)

    @cached_property
    def fixed_decoder(self) -> Decoder:
        """The same of weights that do not change any more: later changes may go unseen.

        It is faster where they are of half precision: see ``fixed`` of :func:`dlmie.function`.
        """
        return self._make_decoder(fixed=True)

    def _make_decoder(self, *, fixed: bool) -> Decoder:
        state, context = self.begin(self.features)
        begin = function([self.features], [*state, *context], name=f"{self.kind} begin")
        words = pt.tensor("words", dtype="int32", shape=(None,))
        state_in = [v.type(f"state{i}") for i, v in enumerate(state)]
        context_in = [v.type(f"context{i}") for i, v in enumerate(context)]
        scores, new_state, extras = self.advance(words, state_in, context_in)
        advance = function(
            [words, *state_in, *context_in],
            [scores, *new_state, *extras.values()],
            name=f"{self.kind} advance",
            fixed=fixed,
        )
        fixed_rows = current_backend() == "jax"
        return Decoder(begin, advance, len(state), list(extras), self.dtype, fixed_rows=fixed_rows)

    def summary(self) -> str:
        """A table of the parameters."""
        return parameter_table(self.kind, self.parameters)
