"""Encoders by name, by the header of a file, and compiled; the features they make of a data set."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

import numpy as np
from pytensor.graph.basic import Variable
from pytensor.graph.replace import clone_replace

from dlmie import models
from dlmie.captioning.encoding import CompiledEncoder, mean_of_flipped
from dlmie.data.captions.dataset import Captions
from dlmie.data.captions.extraction import ExtractionOptions, Features, extract_features
from dlmie.data.images import Preprocessing
from dlmie.errors import WeightsError, WeightsWarning
from dlmie.files import containers as storage
from dlmie.graph.network import Network, View
from dlmie.typing import JsonObject


def encoder_header(network: Network, layer: str) -> JsonObject:
    """What identifies the features of an encoder: stored with features, runs and models."""
    weights = network.weights
    if weights is not None and "path" in weights:
        # A run may be continued from another folder.
        weights = {**weights, "path": str(Path(weights["path"]).resolve())}
    drawn = {} if weights is not None else {"drawn": _hash_of(network)}
    return {
        "name": network.name,
        "layer": layer,
        "size": network.preprocessing.size,
        "weights": weights,
        **drawn,
        "preprocessing": network.preprocessing.to_json(),
        **({"options": network.options} if network.options else {}),
    }


def _hash_of(network: Network) -> str:
    """SHA-256 of all weights as they were when first asked: of an encoder without a weight file.

    What an encoder learns later does not make another one of it.
    """
    kept: str | None = vars(network).get("_drawn")
    if kept is not None:
        return kept
    digest = hashlib.sha256()
    for parameter in sorted(network.parameters, key=lambda p: str(p.name)):
        digest.update(str(parameter.name).encode())
        digest.update(np.ascontiguousarray(parameter.get_value(borrow=True)).tobytes())
    network._drawn = digest.hexdigest()
    return network._drawn


def learned_from(header: JsonObject, size: int) -> JsonObject:
    """The header of an encoder for a captioner that learned from images of ``size`` pixels."""
    seen = Preprocessing.from_json(header["preprocessing"]).learned_from(size)
    return {**header, "preprocessing": seen.to_json()}


def features_of(header: JsonObject, data_hash: str, size: int) -> JsonObject:
    """What the header of a feature cache must say of data whose images have ``size`` pixels.

    The encoder's weight file may lie elsewhere.
    """
    wanted = {key: header[key] for key in ("name", "layer", "size")}
    left = Preprocessing.from_json(header["preprocessing"]).prepared(size)
    wanted["preprocessing"] = left.to_json()
    weights = header["weights"]
    wanted["weights"] = None if weights is None else {"sha256": weights["sha256"]}
    wanted["options"] = header.get("options")  # None: made with none
    if "drawn" in header:  # of random weights; version 0.1 did not say which
        wanted["drawn"] = header["drawn"]
    return {"encoder": wanted, "data": data_hash}


def own_prefix(name: str) -> str:
    """How the names of an encoder's parameters begin: ``/efficientnet_lite0/``."""
    return f"/{name.replace('-', '_')}/"


def encoder_from_header(
    header: JsonObject,
    stored: Mapping[str, np.ndarray] | None = None,
    source: str | Path = "the model file",
) -> Network:
    """The encoder that a header describes.

    Parameters
    ----------
    header : mapping
        From :func:`encoder_header`.
    stored : mapping, optional
        Weights that a model file brings along: all of the encoder's, or those that training
        changed, which replace the ones of the encoder's own file.
    source : path
        The file they come from, for messages.

    Raises
    ------
    WeightsError
        The user's weight file has moved or changed: names it.
    """
    prefix = own_prefix(header["name"])
    stored = {k: v for k, v in (stored or {}).items() if k.startswith(prefix)}
    if stored:
        bare = models.encoder(header["name"], weights=None, **_options(header))
        bare.adapt(stored, {})
        if {str(p.name) for p in bare.parameters} == set(stored):
            storage.assign(bare.parameters, stored, source)
            bare.weights = header["weights"]
            bare.preprocessing = Preprocessing.from_json(header["preprocessing"])
            return bare
    with warnings.catch_warnings():  # nothing is assumed: the header says what training saw
        warnings.simplefilter("ignore", WeightsWarning)
        network = _with_own_weights(header)
    network.preprocessing = Preprocessing.from_json(header["preprocessing"])
    changed = [p for p in network.parameters if str(p.name) in stored]
    storage.assign(changed, stored, source)
    return network


def _with_own_weights(header: JsonObject) -> Network:
    weights = header["weights"] or {}
    options = _options(header)
    if "path" in weights:
        if not Path(weights["path"]).is_file():
            raise WeightsError(
                f"the weights of encoder {header['name']} are no longer at {weights['path']}: put "
                f"them back, or name the file (SHA-256 {weights['sha256'][:12]}…) with "
                "--encoder-weights"
            )
        options["weights"] = weights["path"]
    elif not weights:
        options["weights"] = None
    if header["name"] not in models.ENCODERS:
        raise WeightsError(
            f"features of {header['name']} are made by another program: what learned from them can "
            "be evaluated on such features (--features), and sees no photographs"
        )
    network = models.encoder(header["name"], **options)
    found = (network.weights or {}).get("sha256")
    if weights and found != weights.get("sha256"):
        raise WeightsError(
            f"encoder {header['name']} has other weights than this model was trained with "
            f"(SHA-256 {str(found)[:12]}…, wanted {weights.get('sha256', '')[:12]}…)"
        )
    return network


def _options(header: JsonObject) -> JsonObject:
    """How the network of a header was made, its weights aside."""
    return {"size": header["size"], **header.get("options", {})}


class Encoder(CompiledEncoder):
    """One layer of a network, compiled: photographs → annotations.

    Parameters
    ----------
    network : Network
    layer : str
    average_flip : bool
        Annotations are the mean of what the network makes of the image and, mirrored back, of its
        mirror image: twice the work, less chance (test-time augmentation; Krizhevsky et al. 2012,
        section 4.1).
    fixed : bool
        The network's weights will not change any more, or changes may go unseen: see
        :func:`dlmie.function`.
    """

    def __init__(
        self, network: Network, layer: str, *, average_flip: bool = False, fixed: bool = False
    ) -> None:
        from dlmie.compilation import function

        self.network, self.layer = network, layer
        name = f"{network.name} {layer}"
        run = function([network.input], network[layer], name=name, fixed=fixed)
        super().__init__(run, network.preprocessing, average_flip=average_flip)

    def annotations(self, view: View) -> Variable:
        """The same symbolically: what the network says on ``view.input``, for gradients."""
        layer = view[self.layer]
        if not self.average_flip:
            return layer
        mirrored = {view.input: view.input[:, :, :, ::-1]}
        return mean_of_flipped(layer, clone_replace(layer, replace=mirrored))


def feature_path(data: Captions, header: JsonObject) -> Path:
    """Where the features of a data file are kept unless a path is given: beside it."""
    stem = data.path.with_suffix("")
    layer = header["layer"].replace("/", ".")  # block15/depthwise
    options = "".join(f"-{name}{value}" for name, value in header.get("options", {}).items())
    made_by = f"{header['name']}-{layer}-{header['size']}{options}"
    if "drawn" in header:  # of random weights there are many
        made_by += f"-{header['drawn'][:8]}"
    return stem.with_name(f"{stem.name}.{made_by}.features.h5")


def make_features(
    data: Captions,
    network: Network,
    layer: str,
    *,
    to: str | Path,
    progress: bool = True,
    **options: Unpack[ExtractionOptions],
) -> Features:
    """Run an encoder over a data set into a feature cache, or continue or reuse one.

    The options are those of :func:`~dlmie.data.captions.extraction.extract_features`.
    """
    left = network.preprocessing.prepared(data.size)
    header = {"encoder": {**encoder_header(network, layer), "preprocessing": left.to_json()}}
    encoder = Encoder(network, layer, fixed=True)
    return extract_features(data, encoder, left, to=to, header=header, progress=progress, **options)
