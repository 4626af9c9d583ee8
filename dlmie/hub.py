"""Where models and data meet: save and load a captioner, caption photographs, evaluate.

Encoders and their features are in :mod:`dlmie.hub_encoders`, training and resuming in
:mod:`dlmie.hub_training`; with the commands in ``dlmie/cli`` the modules named ``hub`` are the only
ones that know every room.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlmie import init, storage
from dlmie.data.vocabulary import Vocabulary, tokenize
from dlmie.decoding import Caption, Decoding, ensemble_step, force
from dlmie.errors import DataError, DlmieError, WeightsError
from dlmie.hub_encoders import (
    Encoder,
    encoder_from_header,
    encoder_header,
    features_of,
    make_encoder,
    own_prefix,
)
from dlmie.metrics import Scores, coverage, score
from dlmie.metrics.pointing import pointing
from dlmie.network import Parameter, parameter, suggest

__all__ = [
    "CAPTIONERS",
    "SHIPPED",
    "Encoder",
    "ImageCaptioner",
    "Member",
    "captioner_class",
    "check_features",
    "decode_in_batches",
    "encoder_from_header",
    "encoder_header",
    "evaluate",
    "export",
    "find_model",
    "load",
    "make_encoder",
    "save_model",
    "score_captions",
    "split_reader",
    "versions",
]

# The fixed tables of what a file may name: nothing is imported by a string that a file holds.
CAPTIONERS = {
    "show-tell": ("dlmie.models.show_tell", "ShowTell"),
    "show-attend-tell": ("dlmie.models.show_attend_tell", "ShowAttendTell"),
    "caption-rnn": ("dlmie.models.caption_rnn", "CaptionRNN"),
}
# Captioners that are installed with the package, by name.
SHIPPED = {"flickr8k": "flickr8k.h5"}


def captioner_class(kind: str) -> Any:
    """The class of a captioner by the name in its file."""
    if kind not in CAPTIONERS:
        raise DlmieError(f"unknown kind of captioner {kind!r}{suggest(kind, CAPTIONERS)}")
    module, name = CAPTIONERS[kind]
    return getattr(importlib.import_module(module), name)


@dataclass
class Member:
    """One model of a captioner, with the header of its file."""

    model: Any
    header: dict[str, Any]
    path: Path
    arrays: dict[str, np.ndarray]  # what the file holds of the encoder's weights

    @cached_property
    def encoder(self) -> Encoder:
        """The compiled encoder; weights that training changed come from the model's own file."""
        header = self.header["encoder"]
        return Encoder(encoder_from_header(header, self.arrays, self.path), header["layer"])

    @property
    def source(self) -> str:
        """What :func:`load` takes for this model: a shipped name, a run folder or a file."""
        if self.path.parent.name == "pretrained":
            for name, file in SHIPPED.items():
                if self.path.name == file:
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
            first.model.vocabulary.check_matches(other.model.vocabulary, str(other.path))

    @property
    def model(self) -> Any:
        """The (first) model: its symbolic graph and parameters."""
        return self.members[0].model

    @property
    def header(self) -> dict[str, Any]:
        """What the (first) model's file says of it."""
        return self.members[0].header

    @property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    def features(self, images: Sequence[Any]) -> list[np.ndarray]:
        """Annotations of photographs, one array for each model."""
        done: dict[str, np.ndarray] = {}
        result = []
        for member in self.members:
            key = _feature_key(member)
            if key not in done:
                done[key] = member.encoder.photographs(images)
            result.append(done[key])
        return result

    def step(self, features: Sequence[np.ndarray]) -> tuple[Callable[..., Any], Any]:
        """The step function over images, and their first state, for :mod:`dlmie.decoding`."""
        begun = [
            member.model.decoder.begin(x) for member, x in zip(self.members, features, strict=True)
        ]
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
        caption.text = self.vocabulary.text(caption.words)
        alphas = caption.extras.get("alphas")
        if alphas is not None and alphas.ndim == 2:  # cells of a row-major grid
            rows, columns = self.model.annotation_shape[1:]
            caption.extras["alphas"] = alphas.reshape(len(alphas), rows, columns)

    def __call__(self, image: Any, **options: Any) -> Any:
        """Caption one photograph, or a list of them.

        Parameters
        ----------
        image
            Anything :func:`~dlmie.data.images.load_image` reads, or a list of such.
        **options
            Fields of :class:`~dlmie.decoding.Decoding`: ``beam``, ``n_best``, ``length_norm``, …

        Returns
        -------
        list of Caption
            Best first; for a list of photographs, a list of such lists.
        """
        several = isinstance(image, (list, tuple))
        images = list(image) if several else [image]
        captions = self.decode(self.features(images), Decoding(**options))
        return captions if several else captions[0]

    def force(self, image: Any, sentence: str) -> Caption:
        """Say a given sentence about a photograph: its log-probability and attention."""
        words = self.vocabulary.encode(tokenize(sentence))
        if not words:
            raise DlmieError("the sentence has no words")
        step, state = self.step(self.features([image]))
        caption = force(step, state, [words])[0]
        self._finish(caption)
        return caption


def _feature_key(member: Member) -> str:
    tuned = str(member.path) if member.arrays else ""  # an encoder trained with the captioner
    return json.dumps([member.header["encoder"], tuned], sort_keys=True)


def find_model(source: str | Path) -> Path:
    """The model file that a run folder, a file or the name of a shipped captioner stands for."""
    path = Path(source)
    if path.is_dir():
        best = path / "best.h5"
        if best.is_file():
            return best
        raise WeightsError(
            f"{path} holds no trained model yet (best.h5): train at least one epoch, or continue "
            f"with dlmie train --resume {path}"
        )
    if path.is_file():
        return path
    if str(source) in SHIPPED:
        from dlmie import models

        shipped = Path(models.__path__[0]) / "pretrained" / SHIPPED[str(source)]
        if shipped.is_file():
            return shipped
    raise WeightsError(
        f"no run folder, model file or shipped captioner {str(source)!r} "
        f"(shipped: {', '.join(SHIPPED)})"
    )


def load(
    source: str | Path | Sequence[str | Path], *, encoder_weights: str | Path | None = None
) -> ImageCaptioner:
    """Load a trained captioner: a run folder, a model file, a shipped name, or several of them.

    Parameters
    ----------
    source
        Several sources make an ensemble.
    encoder_weights : path, optional
        Where the encoder's weight file is now, for models trained on a user's own weights.

    Raises
    ------
    WeightsError
        Nothing there, damaged, of a later version, or not fitting: one line that says which.
    """
    if isinstance(source, (str, Path)):
        source = [source]
    return ImageCaptioner([_load_member(find_model(s), encoder_weights) for s in source])


def _load_member(path: Path, encoder_weights: str | Path | None) -> Member:
    header, arrays = storage.load(path)
    try:
        vocabulary = Vocabulary.from_json(header["vocabulary"])
        with init.nothing_drawn():
            model = captioner_class(header["kind"])(
                tuple(header["annotation_shape"]), vocabulary, **header["config"]
            )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} lacks or garbles its description ({error})") from error
    encoder = header.get("encoder")
    own = {str(p.name) for p in model.parameters}
    prefix = own_prefix(encoder["name"]) if encoder else None
    of_encoder = {
        k: v for k, v in arrays.items() if k not in own and prefix and k.startswith(prefix)
    }
    mine = {k: v for k, v in arrays.items() if k not in of_encoder}
    storage.assign(model.parameters, mine, path)
    if encoder_weights is not None and encoder:
        from dlmie.weights import sha256

        known = (encoder["weights"] or {}).get("sha256")
        place = {"path": str(encoder_weights), "sha256": known or sha256(Path(encoder_weights))}
        header["encoder"] = {**encoder, "weights": place}
    return Member(model, header, path, of_encoder)


def save_model(
    model: Any,
    path: str | Path,
    *,
    encoder: Mapping[str, Any] | None,
    extra: Sequence[Parameter] = (),
    meta: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    compress: bool = False,
) -> Path:
    """Write a captioner as one file: parameters, vocabulary, configuration, encoder.

    Parameters
    ----------
    model : Captioner
    path : path
    encoder : mapping
        From :func:`~dlmie.hub_encoders.encoder_header`; with ``"finetuned"``, the first layer that
        training changed, if any.
    extra : sequence of Parameter
        More parameters to store: those of an encoder that was trained, or all of an encoder whose
        weights the file shall bring along.
    meta : mapping, optional
        What else the file says of itself: any JSON values.
    dtype : str, optional
        Store floats as this ("float16" halves the file).
    compress : bool
        Make the file smaller still; it takes longer to write.

    Raises
    ------
    DlmieError
        The disk is full; or a weight is beyond the range of ``dtype``.
    """
    chosen = {str(p.name): p for p in [*model.parameters, *extra]}
    arrays = {name: p.get_value(borrow=True) for name, p in chosen.items()}
    if dtype is not None:
        limit = np.finfo(dtype).max
        for name, array in arrays.items():
            if array.size and np.abs(array).max() > limit:
                raise DlmieError(f"{name} does not fit into {dtype}: save it as float32")
        arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    header = {
        "kind": model.kind,
        "config": model.config,
        "annotation_shape": list(model.annotation_shape),
        "vocabulary": model.vocabulary.to_json(),
        "encoder": None if encoder is None else dict(encoder),
        "meta": dict(meta or {}),
    }
    return storage.save(path, arrays, header, compress=compress)


def export(
    source: str | Path | Sequence[str | Path], to: str | Path, *, dtype: str | None = "float16"
) -> Path:
    """Write a trained captioner as one small file to hand out.

    Parameters
    ----------
    source
        What :func:`load` takes.  Of several, the mean of their weights is written: of models that
        went on learning from one and the same, it is often better than each (a "model soup",
        Wortsman et al. 2022).
    to : path
        The file; it captions without the run folder.
    dtype : str, optional
        What floats are stored as; None keeps them as they are.

    Raises
    ------
    DlmieError
        The models to average are not of one kind, size and encoder.
    """
    first, *others = load(source).members
    meta = dict(first.header.get("meta") or {})
    if others:
        _average(first, others)
        parts = [{"file": str(m.path), **(m.header.get("meta") or {})} for m in (first, *others)]
        meta = {"averaged": parts}
    stored = [parameter(name, value) for name, value in first.arrays.items()]
    return save_model(
        first.model,
        to,
        encoder=first.header.get("encoder"),
        extra=stored,
        meta=meta,
        dtype=dtype,
        compress=True,
    )


def _average(first: Member, others: Sequence[Member]) -> None:
    """Give the first model the mean of all models' weights."""
    for other in others:
        pair = (first, other)
        shapes = [{str(p.name): p.type.shape for p in m.model.parameters} for m in pair]
        encoders = [m.header["encoder"] for m in pair]
        alike = first.arrays.keys() == other.arrays.keys() and all(
            np.array_equal(array, other.arrays[name]) for name, array in first.arrays.items()
        )
        if shapes[0] != shapes[1] or encoders[0] != encoders[1] or not alike:
            raise DlmieError(
                f"{first.path} and {other.path} cannot be averaged: they are models of other kinds "
                "or sizes, or see through other encoders"
            )
    for parameters in zip(*(m.model.parameters for m in (first, *others)), strict=True):
        mean = np.mean([p.get_value(borrow=True) for p in parameters], axis=0, dtype=np.float64)
        parameters[0].set_value(mean.astype(parameters[0].type.dtype))


def versions() -> dict[str, str]:
    """Versions of everything that decides a result."""
    import platform
    from importlib.metadata import version

    import dlmie

    names = ("pytensor", "numpy", "scipy", "h5py", "scikit-image", "nltk")
    found = {name: version(name) for name in names}
    return {"dlmie": dlmie.__version__, "python": platform.python_version(), **found}


def decode_in_batches(
    captioner: ImageCaptioner,
    read: Callable[[np.ndarray], Sequence[np.ndarray]],
    images: int,
    decoding: Decoding,
    *,
    batch: int = 32,
    progress: bool = False,
) -> Iterator[list[Caption]]:
    """Caption images 0 … ``images - 1`` a batch at a time; ``read`` gives their annotations."""
    from tqdm import tqdm

    with tqdm(total=images, unit="image", disable=not progress, leave=False) as bar:
        for start in range(0, images, batch):
            index = np.arange(start, min(start + batch, images))
            yield from captioner.decode(read(index), decoding, keys=index.tolist())
            bar.update(len(index))


def split_reader(
    captioner: ImageCaptioner, split: Any, features: Any = None
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A function that gives the annotations of images of a split by number.

    They come from a feature cache where one is given, else from the photographs.

    Raises
    ------
    DataError
        The cache is of other data or of another encoder than the captioner's; names every
        difference.
    """
    if features is not None:
        for member in captioner.members:
            check_features(features, member, split.data_hash)
        return lambda index: [features.read(split.name, index)] * len(captioner.members)
    return lambda index: captioner.features(list(split.load_images(index)))


def check_features(features: Any, member: Member, data_hash: str) -> None:
    """Raise a DataError unless a cache holds what the model's encoder makes of the data."""
    encoder = member.header["encoder"]
    if encoder.get("finetuned"):
        raise DataError(
            f"{member.path} was trained together with its encoder: features that were kept before "
            "do not fit; leave them out"
        )
    features.check_matches(features_of(encoder, data_hash))


def evaluate(
    captioner: ImageCaptioner | str | Path,
    split: Any,
    *,
    features: Any = None,
    bootstrap: int = 0,
    progress: bool = False,
    **options: Any,
) -> Scores:
    """Score a captioner's free-running captions of a split against its raw references.

    Parameters
    ----------
    captioner
        A loaded captioner, or what :func:`load` takes.
    split : dlmie.data.captions.Split
        ``Captions("flickr8k.h5")["dev"]``.
    features : dlmie.data.features.Features, optional
        Cached annotations of the same encoder; without, the photographs are encoded.
    bootstrap : int
        Resamplings for confidence intervals; 0 for none.
    **options
        Fields of :class:`~dlmie.decoding.Decoding`.

    Returns
    -------
    Scores
        BLEU-1..4, ROUGE-L, CIDEr-D with the protocol; ``captions`` holds what was said. With
        ``pointing`` where the captioner attends and the data say what is where.
    """
    if isinstance(captioner, (str, Path)):
        captioner = load(captioner)
    decoding = Decoding(**options)
    read = split_reader(captioner, split, features)
    said = [
        image[0]
        for image in decode_in_batches(captioner, read, len(split), decoding, progress=progress)
    ]
    return score_captions(captioner, split, said, decoding, bootstrap=bootstrap)


def score_captions(
    captioner: ImageCaptioner,
    split: Any,
    said: Sequence[Caption],
    decoding: Decoding,
    *,
    bootstrap: int = 0,
) -> Scores:
    """Score captions that were decoded for a split, with the protocol they came about by."""
    scores = score(
        [caption.text for caption in said],
        split.references,
        bootstrap=bootstrap,
        split=split.name,
        decoding=decoding.describe(),
        unknown_words="as they stand" if decoding.allow_unknown else "never said",
    )
    words = [[tokenize(text) for text in texts] for texts in split.references]
    scores.protocol["vocabulary"] = len(captioner.vocabulary)
    scores.protocol["vocabulary_coverage"] = coverage(words, captioner.vocabulary)
    scores.protocol["data_hash"] = split.hash
    scores.protocol["models"] = len(captioner.members)
    if split.objects is not None and all(caption.alphas is not None for caption in said):
        return replace(scores, pointing=pointing(said, split.objects))
    return scores
