"""Show, Attend and Tell (Xu et al., ICML 2015): soft and hard attention over a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Variable

from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.deprecation import renamed_arguments
from dlmie.errors import DlmieError
from dlmie.graph import init
from dlmie.graph.network import Parameter, parameter
from dlmie.layers import Embedding, Linear
from dlmie.layers.attention import AttentionLSTM
from dlmie.layers.noise import Noise
from dlmie.layers.noise import dropout as drop
from dlmie.layers.options import LayerOptions
from dlmie.layers.position import grid_position
from dlmie.models.captioners.captioner import Captioner, Extra, Forward
from dlmie.models.captioners.class_words import ClassWords
from dlmie.models.encoders import imagenet
from dlmie.models.encoders.image_network import ImageNetwork
from dlmie.ops.losses.cross_entropy import log_softmax, softmax
from dlmie.typing import Json

QUERIES = ("previous", "current")


class ShowAttendTell(Captioner):
    """LSTM captioner that looks at a weighted mean of the annotations before every word.

    With annotations a_i, the hidden state h and the previous word's vector x (SPEC names follow the
    paper's section 3.1):

    * ``e_i = v · tanh(a_i W_a + h W_q + b)``, ``α = softmax(e)`` (score "tanh"; "relu" and the
      scaled dot product "dot" are the variants of well-known reimplementations);
    * ``z = β Σ α_i a_i`` with the gate ``β = σ(h W_β + b_β)``: one number ("scalar"), one per
      channel ("vector") or absent ("none");
    * x, h and z enter the LSTM's gates of the same step;
    * deep output: ``logits = W_o tanh(W_h h + W_z z + x)``, or a plain layer on h.

    With ``position`` each annotation also says where its cell is
    (:func:`~dlmie.layers.position.grid_position`).  With ``query="current"`` attention is asked by
    the state that has read the previous word, ``e_i = v · tanh(a_i W_a + h_t W_q + b)``, and what
    it finds helps to choose the next word and enters the gates one step later (Lu et al., CVPR
    2017, "Knowing when to look", section 2.2); in the paper's form, "previous", it is h_{t-1}: it
    looks before it knows which word has just been said.

    With ``global_context`` the mean annotation, through a ReLU layer of that size, enters the gates
    and the deep output of every step, too: what the whole image shows need not come through z, so
    that α is free to rest on one thing.

    Parameters
    ----------
    annotations, vocabulary, seed, dtype
        See :class:`~dlmie.models.captioners.captioner.Captioner`; the annotations must be a grid.
    embedding, hidden, attention : int
        Sizes of the word vectors, the LSTM and the attention's hidden layer.
    dropout : float
        Rate before the output layer; half of it on the annotations and word vectors.
    score : str
        "tanh", "relu" or "dot".
    gate : str
        "scalar", "vector" or "none".
    deep_output : bool
    hard : bool
        Stochastic attention (section 4.1): while training, a location is drawn at a random half of
        the steps, and α learns from the draws by REINFORCE; see :meth:`extra_loss`.  Without noise
        the expectation is used everywhere, as by a soft model.
    query : str
        "previous" or "current": the state that asks where to look.
    standardize : bool
        Subtract from each channel of the annotations its mean over the training images and divide
        by its standard deviation.  For layers without batch norm, and for joined layers.  Training
        measures both before its first step (:meth:`~Captioner.measure`); they do not learn.
    position : int
        Frequencies of the sines and cosines of row and column, four channels each; 0 for none.
    project : int, optional
        Map the annotations to this many channels first (ReLU): saves time with wide encoders.
    global_context : int, optional
        Size of the layer on the mean annotation that every step sees.
    global_head : int, optional
        Number of units of the encoder's last 1×1 convolution (1280 of EfficientNet-Lite). The first
        state and the global context are then made from the mean of these units over the grid, what
        ImageNet's classes are read from, while attention stays with the annotations before them.
        Their weights are copied from the encoder and do not learn.
    class_words : float
        During decoding, words that name classes of ImageNet ("cat" names five) gain so much times
        ``log((p + 0.006) / 0.018)`` in their logit, where p is the probability of these classes as
        the encoder's own classifier reads it from ``global_head``; a thing is named once: see
        :class:`~dlmie.models.captioners.class_words.ClassWords`. 0 for none. The classifier's
        weights are copied from the encoder. Training goes without.

    Raises
    ------
    DlmieError
        The annotations are no grid; an unknown query; ``hard`` with the current query; a negative
        position; ``global_head`` of an encoder's layer that no such convolution follows, or of
        another size; ``class_words`` without it, or of an encoder for other classes.
    """

    kind = "show-attend-tell"
    decoding_only = ("class_words",)

    #: Hard attention: share of the steps at which a cell is drawn, and the weights of REINFORCE's
    #: term (1: the true gradient) and of the entropy's.
    draw_share, reinforce, entropy = 0.5, 1.0, 0.002

    @renamed_arguments(words="embedding")
    def __init__(
        self,
        annotations: Variable | Sequence[int],
        vocabulary: Vocabulary,
        *,
        embedding: int = 256,
        hidden: int = 512,
        attention: int = 256,
        dropout: float = 0.5,
        score: str = "tanh",
        gate: str = "scalar",
        deep_output: bool = True,
        hard: bool = False,
        query: str = "previous",
        standardize: bool = False,
        position: int = 0,
        project: int | None = None,
        global_context: int | None = None,
        global_head: int | None = None,
        class_words: float = 0.0,
        seed: int = 0,
        dtype: str = "float32",
    ) -> None:
        super().__init__(annotations, vocabulary, seed=seed, dtype=dtype)
        if len(self.annotation_shape) != 3:
            raise DlmieError(
                f"attention needs a grid of annotations (channels, rows, columns), not "
                f"{self.annotation_shape}: choose an earlier layer of the encoder"
            )
        if query not in QUERIES:
            raise DlmieError(f"query must be one of {', '.join(QUERIES)}, not {query!r}")
        if position < 0:
            raise DlmieError(f"position is {position}; it must be 0 or more frequencies")
        if class_words < 0:
            raise DlmieError(f"class_words is {class_words:g}; it must not be negative")
        if hard and query == "current":
            raise DlmieError("hard attention is drawn by the previous state: leave query out")
        self.query, self.standardize, self.position = query, standardize, position
        self.embedding_size, self.hidden, self.attention = embedding, hidden, attention
        self.dropout, self.score, self.gate = dropout, score, gate
        self.deep_output, self.hard, self.projected = deep_output, hard, project
        self.global_context, self.global_head = global_context, global_head
        self.class_words = class_words
        made: LayerOptions = {"rng": np.random.default_rng(seed), "dtype": dtype}
        channels = self.annotation_shape[0]
        if standardize:
            zeros, ones = np.zeros(channels, dtype), np.ones(channels, dtype)
            self.mean = parameter("/annotations/mean", zeros, trainable=False)
            self.deviation = parameter("/annotations/deviation", ones, trainable=False)
        if project is not None:
            self.projection = Linear("/annotations", channels, project, W=init.he_normal(), **made)
            channels = project
        channels += 4 * position
        whole = channels if global_head is None else global_head
        if global_head is not None:
            W, b = self._head_of_encoder(global_head)
            self.head = Linear("/global/head", *W.shape, W=W, b=b, trainable=False, **made)
        if class_words:
            W, b = self._classifier_of_encoder(global_head)
            self.classifier = Linear("/classes", *W.shape, W=W, b=b, trainable=False, **made)
            self.naming = ClassWords(vocabulary, class_words, dtype)
        self.first_hidden = Linear("/initial/hidden", whole, hidden, **made)
        self.first_cell = Linear("/initial/cell", whole, hidden, **made)
        self.embedding = Embedding("/embedding", len(vocabulary), embedding, **made)
        inputs = embedding + (global_context or 0)
        self.lstm = AttentionLSTM(
            "/lstm", inputs, channels, hidden, attention, score=score, gate=gate, **made
        )
        if global_context is not None:
            self.context = Linear("/global", whole, global_context, W=init.he_normal(), **made)
            if deep_output:
                self.from_global = Linear(
                    "/output/global", global_context, embedding, b=None, **made
                )
        if deep_output:
            self.from_hidden = Linear("/output/hidden", hidden, embedding, **made)
            self.from_context = Linear("/output/context", channels, embedding, b=None, **made)
        self.output = Linear(
            "/output", embedding if deep_output else hidden, len(vocabulary), **made
        )

    @property
    def config(self) -> dict[str, Json]:
        return {
            "embedding": self.embedding_size,
            "hidden": self.hidden,
            "attention": self.attention,
            "dropout": self.dropout,
            "score": self.score,
            "gate": self.gate,
            "deep_output": self.deep_output,
            "hard": self.hard,
            "query": self.query,
            "standardize": self.standardize,
            "position": self.position,
            "project": self.projected,
            "global_context": self.global_context,
            "global_head": self.global_head,
            "class_words": self.class_words,
            "seed": self.seed,
            "dtype": self.dtype,
        }

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the annotations."""
        return self.annotation_shape[1], self.annotation_shape[2]

    def _annotations(self, features: Variable, noise: Noise | None = None) -> Variable:
        """features (images, channels, rows, columns) → (images, cells, channels), row by row."""
        a = self.annotations(features)
        if self.standardize:
            a = (a - self.mean) / self.deviation
        a = drop(a, self.dropout / 2, noise)
        if self.projected:
            a = pt.maximum(self.projection(a), 0)
        if not self.position:
            return a
        where = grid_position(features.shape[2], features.shape[3], self.position)
        where = pt.cast(where, self.dtype)
        return pt.concatenate([a, pt.alloc(where, a.shape[0], *where.shape)], axis=2)

    def _head_of_encoder(self, units: int) -> tuple[np.ndarray, np.ndarray]:
        """Weights (channels, units) and biases (units,); zeros where a file has them."""
        channels = self.annotation_shape[0]
        if self.encoder is None:
            return np.zeros((channels, units), self.dtype), np.zeros(units, self.dtype)
        head = None
        if isinstance(self.encoder, ImageNetwork) and self.layer is not None:
            head = self.encoder.head_on(self.layer)
        if head is None or head[0].shape != (channels, units):
            has = "has none there" if head is None else f"has {head[0].shape[1]} there"
            raise DlmieError(
                f"global_head: {units} units after {self.layer} of {self.encoder.name}, which {has}"
            )
        return head

    def _classifier_of_encoder(self, units: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Weights (units, classes) and biases (classes,); zeros where a file has them."""
        if units is None:
            raise DlmieError("class_words needs global_head: the units that classes are read from")
        classes = len(imagenet.classes())
        if self.encoder is None:
            return np.zeros((units, classes), self.dtype), np.zeros(classes, self.dtype)
        read = self.encoder.classifier() if isinstance(self.encoder, ImageNetwork) else None
        if read is None or read[0].shape != (units, classes):
            raise DlmieError(
                f"class_words: {self.encoder.name} does not read ImageNet's classes from "
                f"{units} units"
            )
        return read

    @classmethod
    def copies_encoder(cls, config: Mapping[str, Json]) -> bool:
        return config.get("global_head") is not None

    @property
    def measured(self) -> list[Parameter]:
        return [self.mean, self.deviation] if self.standardize else []

    def measure(self, read: Callable[[], np.ndarray]) -> None:
        if not self.standardize or self.mean.get_value().any():
            return
        features = read()
        mean = features.mean(axis=(0, 2, 3), dtype=np.float64)
        deviation = features.std(axis=(0, 2, 3), dtype=np.float64)
        self.mean.set_value(mean.astype(self.dtype))
        # A channel that is the same everywhere tells nothing, and stays 0.
        self.deviation.set_value(np.where(deviation, deviation, 1).astype(self.dtype))

    @property
    def copied(self) -> list[Parameter]:
        if self.global_head is None:
            return []
        layers = [self.head, *([self.classifier] if self.class_words else [])]
        return [p for layer in layers for p in (layer.W, layer.b) if p is not None]

    def _whole(self, features: Variable, a: Variable, noise: Noise | None) -> Variable:
        """What the whole image shows: features and their annotations → (images, channels)."""
        if self.global_head is None:
            return a.mean(axis=1, dtype=self.dtype)
        return drop(self._pooled(features), self.dropout / 2, noise)

    def _pooled(self, features: Variable) -> Variable:
        """What the encoder reads its classes from: (images, units)."""
        # The mean of every other cell is close to that of all, at a quarter of the work.
        first = 1 if min(self.grid) > 1 else 0
        cells = self.annotations(features[:, :, first::2, first::2])
        return pt.clip(self.head(cells), 0, 6).mean(axis=1, dtype=self.dtype)

    def _worth(self, features: Variable) -> list[Variable]:
        """With ``class_words``: what it is worth to say a word, (images, naming words)."""
        if not self.class_words:
            return []
        return [self.naming.worth(softmax(self.classifier(self._pooled(features))))]

    def _begin(self, features: Variable, a: Variable, noise: Noise | None = None) -> list[Variable]:
        """State before the first word, (batch, hidden) each.

        With a global context, that is its third part: it stays as it is.
        """
        whole = self._whole(features, a, noise)
        state = [pt.tanh(self.first_hidden(whole)), pt.tanh(self.first_cell(whole))]
        if self.global_context is None:
            return state
        return [*state, drop(pt.maximum(self.context(whole), 0), self.dropout / 2, noise)]

    def _read(self, x: Variable, whole: Sequence[Variable]) -> Variable:
        """What every step reads: x (time, rows, embedding), and the global context if there is one.

        Returns (time, rows, embedding + global_context).
        """
        if not whole:
            return x
        every = pt.alloc(whole[0], x.shape[0], *whole[0].shape)
        return pt.concatenate([x, every], axis=2)

    def _logits(self, h: Variable, z: Variable, read: Variable, noise: Noise | None) -> Variable:
        """h (rows, hidden), z (rows, channels), read (rows, inputs) → (rows, vocabulary)."""
        h = drop(h, self.dropout, noise)
        if not self.deep_output:
            return self.output(h)
        x, whole = read[:, : self.embedding_size], read[:, self.embedding_size :]
        deep = self.from_hidden(h) + self.from_context(z) + x
        if self.global_context is not None:
            deep = deep + self.from_global(whole)
        return self.output(drop(pt.tanh(deep), self.dropout, noise))

    def forward(self, features: Variable, words: Variable, noise: Noise | None = None) -> Forward:
        a = self._annotations(features, noise)
        h0, c0, *whole = self._begin(features, a, noise)
        x = drop(self.embedding(words), self.dropout / 2, noise)  # (time, batch, embedding)
        hard = self._draws(words, noise) if self.hard and noise is not None else None
        read = self._read(x, whole)
        projected = self.lstm.project(a)
        if self.query == "current":
            seen = self.lstm(_with_one_more(read), a, projected, h0, c0)
            h, z, alpha, beta = seen.h[:-1], seen.z[1:], seen.alpha[1:], seen.beta[1:]
        else:
            seen = self.lstm(read, a, projected, h0, c0, hard=hard)
            h, z, alpha, beta = seen.h, seen.z, seen.alpha, seen.beta
        extras = {"alphas": alpha, "gates": beta}
        if hard is not None:
            extras |= {"weights": seen.weights, "sampled": hard[1]}
        h, z, flat = (v.reshape((-1, v.shape[2])) for v in (h, z, read))
        return Forward(self._logits(h, z, flat, noise), extras)

    def _draws(self, words: Variable, noise: Noise) -> tuple[Variable, Variable]:
        """For each step (time, batch): a number that draws a cell, and whether to use the draw."""
        template = pt.zeros(words.shape, dtype=self.dtype)
        return noise.uniform_like(template), noise.bernoulli_like(template, self.draw_share)

    def extra_loss(self, forward: Forward, losses: Variable, mask: Variable) -> Extra | None:
        """REINFORCE for the drawn locations, and an entropy bonus (Xu et al. 2015, section 4.1).

        A draw s_t at step t changes the loss of this word and of those after it, so the gradient of
        the expected loss is that of the likelihood plus, for each draw,
        ``(Σ_{u≥t} loss_u - b) ∇ log α_t[s_t]``; the baseline ``b`` per word, a running mean of the
        loss, takes variance away and leaves the expectation.  The second term,
        ``Σ_t Σ_i α_ti log α_ti``, keeps α from settling too early.
        """
        if "weights" not in forward.extras:
            return None
        alphas, weights, drawn = (forward.extras[k] for k in ("alphas", "weights", "sampled"))
        baseline = pytensor.shared(
            np.asarray(np.log(len(self.vocabulary)), self.dtype), name="/hard/baseline"
        )
        surprise = disconnected_grad((losses - baseline) * mask)  # (time, batch)
        advantage = surprise[::-1].cumsum(axis=0)[::-1]  # of all words from this one on
        log_alphas = pt.log(pt.maximum(alphas, np.asarray(1e-20, self.dtype)))
        # Where a cell was drawn the weights are one-hot; elsewhere ``drawn`` is 0.
        log_chosen = (log_alphas * disconnected_grad(weights)).sum(axis=2)
        reinforce = (drawn * mask * advantage * log_chosen).sum()
        entropy = ((alphas * log_alphas).sum(axis=2) * mask).sum()
        share = [np.asarray(x, self.dtype) for x in (self.reinforce, self.entropy, 0.9, 0.1)]
        mean = losses.sum() / mask.sum()
        return Extra(
            share[0] * reinforce + share[1] * entropy,
            [(baseline, share[2] * baseline + share[3] * disconnected_grad(mean))],
        )

    def begin(self, features: Variable) -> tuple[list[Variable], list[Variable]]:
        a = self._annotations(features)
        state = [*self._begin(features, a), *self._worth(features)]
        return state, [a, self.lstm.project(a)]

    def advance(
        self, words: Variable, state: Sequence[Variable], context: Sequence[Variable]
    ) -> tuple[Variable, list[Variable], dict[str, Variable]]:
        (h, c, *rest), (a, projected) = state, context
        parts = 0 if self.global_context is None else 1
        whole, worth = rest[:parts], [self.naming.said(words, x) for x in rest[parts:]]
        read = self._read(self.embedding(words)[None], whole)  # (1, rows, inputs)
        # The step whose query is the state that has read the word.
        asked = 1 if self.query == "current" else 0
        seen = self.lstm(_with_one_more(read) if asked else read, a, projected, h, c)
        h, z = seen.h[0], seen.z[asked]
        extras = {"alphas": seen.alpha[asked].reshape((-1, *self.grid))}
        if self.gate != "none":
            extras["gates"] = seen.beta[asked].mean(axis=1, dtype=self.dtype)
        logits = self._logits(h, z, read[0], None)
        for x in worth:
            logits = logits + self.naming.spread(x)
        return log_softmax(logits), [h, seen.c[0], *whole, *worth], extras


def _with_one_more(read: Variable) -> Variable:
    """(time, rows, inputs) → (time + 1, rows, inputs).

    Attention is asked by the state before a step.  One more step, whatever it reads, lets the state
    after the last one ask.
    """
    return pt.concatenate([read, pt.zeros_like(read[:1])], axis=0)
