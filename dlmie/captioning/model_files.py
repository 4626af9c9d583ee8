"""Model files: found, loaded, saved, and written small to hand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from dlmie.captioning.captioner import ImageCaptioner, Member
from dlmie.captioning.features import encoder_from_header, own_prefix
from dlmie.captioning.finding import find_model as find_model
from dlmie.data.captions.vocabulary import Vocabulary
from dlmie.errors import DlmieError, WeightsError
from dlmie.files import containers as storage
from dlmie.files.schema import Key, check_document
from dlmie.graph import init
from dlmie.graph.network import Parameter, parameter
from dlmie.models import registry
from dlmie.models.captioners.captioner import Captioner, current_config
from dlmie.typing import Json, JsonObject

_HEADER = {
    "kind": Key(str),
    "config": Key(dict),
    "annotation_shape": Key(list, each=Key(int, low=1, high=1_000_000)),
    "vocabulary": Key(list, each=Key(str)),
    "tokenizer": Key(str, required=False),
    "encoder": Key(
        dict,
        required=False,
        null=True,
        keys={
            "name": Key(str),
            "layer": Key(str),
            "size": Key(int, low=1, high=100_000),
            "weights": Key(dict, null=True),
            "preprocessing": Key(dict),
        },
    ),
    "meta": Key(dict, required=False, null=True),
}


# Of a model's configuration: how it is begun and what is noisy while it learns.
_TRAINING = ("seed", "dropout", "weight_scale", "regularization")


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
    return ImageCaptioner([load_member(find_model(s), encoder_weights) for s in source])


def load_member(path: Path, encoder_weights: str | Path | None) -> Member:
    """Load one model file; the encoder's weights may lie elsewhere than it says."""
    header, arrays = storage.load(path)
    check_document(header, _HEADER, path, WeightsError)
    try:
        # Models of dlmie 0.1.0 do not name the contract of their tokenizer: it was the first.
        vocabulary = Vocabulary.from_json(
            header["vocabulary"],
            header.get("tokenizer", "words"),
            header.get("tokenizer_contract", 1),
        )
        with init.nothing_drawn():
            make = registry.model_class(header["kind"], "captioner")
            model = make(
                tuple(header["annotation_shape"]), vocabulary, **current_config(header["config"])
            )
        parameters = model.parameters  # makes the graph, which reads all of the configuration
        encoder = header.get("encoder")
        prefix = own_prefix(encoder["name"]) if encoder else None
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError) as error:
        raise WeightsError(f"{path} has an incomplete or damaged description ({error})") from error
    own = {str(p.name) for p in parameters}
    of_encoder = {
        k: v for k, v in arrays.items() if k not in own and prefix and k.startswith(prefix)
    }
    mine = {k: v for k, v in arrays.items() if k not in of_encoder}
    storage.assign(parameters, mine, path)
    if encoder_weights is not None and encoder:
        from dlmie.weights import sha256

        known = (encoder["weights"] or {}).get("sha256")
        place = {"path": str(encoder_weights), "sha256": known or sha256(Path(encoder_weights))}
        header["encoder"] = {**encoder, "weights": place}
    return Member(model, header, path, of_encoder)


def save_model(
    model: Captioner,
    path: str | Path,
    *,
    encoder: Mapping[str, Json] | None,
    extra: Sequence[Parameter] = (),
    decoding: Mapping[str, Json] | None = None,
    meta: Mapping[str, object] | None = None,
    dtype: str | None = None,
    compress: bool = False,
) -> Path:
    """Write a captioner as one file: parameters, vocabulary, configuration, encoder.

    Parameters
    ----------
    model : Captioner
    path : path
    encoder : mapping
        From :func:`~dlmie.captioning.encoder_header`; with ``"finetuned"``, the first layer that
        training changed, if any, and with ``"average_flip"`` if the captioner shall see the mean
        of each photograph and its mirror image.
    extra : sequence of Parameter
        More parameters to store: those of an encoder that was trained, or all of an encoder whose
        weights the file shall bring along.
    decoding : mapping, optional
        Fields of :class:`~dlmie.captioning.decoding.Decoding` by which its captions are found,
        where nothing else is said.
    meta : mapping, optional
        What else the file says of itself: any JSON values.
    dtype : str, optional
        Store floats as this ("float16" halves the file).
    compress : bool
        Make the file smaller still; it takes longer to write.

    Raises
    ------
    DlmieError
        The disk is full; a weight is beyond the range of ``dtype``; or the class of the model is
        not registered, so that nothing could load the file.
    """
    registry.check_registered(model, "captioner")
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
        "tokenizer": model.vocabulary.tokenizer,
        "tokenizer_contract": model.vocabulary.contract,
        "encoder": None if encoder is None else dict(encoder),
        "meta": dict(meta or {}),
    }
    if decoding:
        header["decoding"] = dict(decoding)
    return storage.save(path, arrays, header, compress=compress)


def export(
    source: str | Path | Sequence[str | Path],
    to: str | Path,
    *,
    dtype: str | None = "float16",
    average_flip: bool | None = None,
    class_words: float | None = None,
    decoding: JsonObject | None = None,
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
    average_flip : bool, optional
        Whether the captioner sees the mean of each photograph and its mirror image
        (:class:`~dlmie.captioning.Encoder`); by default as it was.
    class_words : float, optional
        What words gain that name what the encoder's classifier sees
        (:class:`~dlmie.models.ShowAttendTell`); by default as it was.
    decoding : mapping, optional
        Fields of :class:`~dlmie.captioning.decoding.Decoding` by which its captions are found from
        now on, where nothing else is said.

    Raises
    ------
    DlmieError
        The models to average are not of one kind, size and encoder; the decoding has unknown
        fields, or some that exclude each other; the model's kind knows no ``class_words``.
    """
    captioner = load(source)
    decoding = decoding or {}
    try:
        captioner.decoding(**decoding)
    except TypeError as error:
        raise DlmieError(f"decoding: {error}") from None
    first, *others = captioner.members
    meta = dict(first.header.get("meta") or {})
    if others:
        _average(first, others)
        parts = [{"file": str(m.path), **(m.header.get("meta") or {})} for m in (first, *others)]
        meta = {"averaged": parts}
    encoder = first.header.get("encoder")
    if average_flip is not None:
        encoder = {**first.encoder_header, "average_flip": average_flip}
    stored = [parameter(name, value) for name, value in first.arrays.items()]
    model = first.model if class_words is None else _with_class_words(first, class_words)
    return save_model(
        model,
        to,
        encoder=encoder,
        extra=stored,
        decoding={**(first.header.get("decoding") or {}), **decoding},
        meta=meta,
        dtype=dtype,
        compress=True,
    )


def _with_class_words(member: Member, weight: float) -> Captioner:
    """The same model with another weight of ``class_words``, which training does not know."""
    model = member.model
    if "class_words" not in model.config:
        raise DlmieError(f"{member.path}: a {model.kind} knows no class_words")
    header = member.encoder_header
    network = encoder_from_header(header, member.arrays, member.path)
    config: JsonObject = {**model.config, "class_words": weight}
    with init.nothing_drawn():
        other = type(model)(network[header["layer"]], model.vocabulary, **config)
    values = {str(p.name): p.get_value(borrow=True) for p in model.parameters}
    for each in other.parameters:
        if str(each.name) in values:
            each.set_value(values[str(each.name)])
    return other


def _average(first: Member, others: Sequence[Member]) -> None:
    """Give the first model the mean of all models' weights, and of what their encoders learned."""
    members = (first, *others)
    for other in others:
        mine, theirs = _computation(first.model), _computation(other.model)
        if not _alike(first, other) or mine != theirs:
            odd = [f"{k} {mine[k]} and {theirs.get(k)}" for k in mine if mine[k] != theirs.get(k)]
            raise DlmieError(
                f"{first.path} and {other.path} cannot be averaged: they are models of other kinds "
                f"or sizes, or see through other encoders{': ' if odd else ''}{', '.join(odd)}"
            )
    for parameters in zip(*(m.model.parameters for m in members), strict=True):
        parameters[0].set_value(_mean([p.get_value(borrow=True) for p in parameters]))
    tuned = [m for m in members if m.finetuned]
    if tuned:
        seen = [
            {str(p.name): p.get_value(borrow=True) for p in m.encoder.network.parameters}
            for m in members
        ]
        first.arrays = {n: _mean([values[n] for values in seen]) for n in tuned[0].arrays}
        first.header["encoder"] = {**first.encoder_header, "finetuned": tuned[0].finetuned}


def _alike(one: Member, other: Member) -> bool:
    """Whether the mean of two models means something: one began where the other did."""
    pair = (one, other)
    shapes = [{str(p.name): p.type.shape for p in m.model.parameters} for m in pair]
    bare = [{**(m.header["encoder"] or {}), "finetuned": None} for m in pair]
    if shapes[0] != shapes[1] or bare[0] != bare[1]:
        return False
    tuned = {m.finetuned for m in pair} - {None}
    if tuned:
        return len(tuned) == 1
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items()
    )


def _computation(model: Captioner) -> JsonObject:
    """What a model computes of its weights: its configuration without what only training reads."""
    config = {name: value for name, value in model.config.items() if name not in _TRAINING}
    return {"kind": model.kind, **config}


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(values, axis=0, dtype=np.float64).astype(values[0].dtype)
