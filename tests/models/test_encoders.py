"""What all encoders share: names, sizes, activations, weights that fit or are refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytensor.tensor as pt
import pytest
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

import dlmie
from dlmie import models
from dlmie.data.images import Preprocessing
from dlmie.errors import DlmieError, WeightsError
from dlmie.graph.network import image_input

SMALL_VGG: dict[str, Any] = {
    "channels": (2, 3, 4, 5, 6),
    "units": 7,
    "classes": 9,
    "grid": 2,
    "size": 64,
}
SMALL: dict[str, dict[str, Any]] = {
    "efficientnet-lite0": {"weights": None, "size": 64, "classes": 9},
    "efficientnet-lite1": {"weights": None, "size": 64, "classes": 9},
    "efficientnet-lite2": {"weights": None, "size": 64, "classes": 9},
    "vgg16": SMALL_VGG,
    "vgg19": SMALL_VGG,
    "squeezenet": {"size": 64, "classes": 9},
    "inception-v3": {"size": 75, "classes": 9, "width": 0.05},
    "tiny-imagenet": {"filters": (2, 3, 4, 5, 6), "units": 7, "classes": 9},
    "small-cnn": {"classes": 9},
}
small = pytest.mark.parametrize("name", SMALL)


def test_every_encoder_is_tested_here() -> None:
    assert set(SMALL) == set(models.ENCODERS)


def test_importing_models_imports_no_pytensor() -> None:
    code = (
        "import sys, dlmie.models as m, dlmie.models.encoders.imagenet as i; "
        "i.class_index('oboe'); "
        "assert 'vgg16' in m.ENCODERS; assert 'pytensor' not in sys.modules; assert m.VGG16"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_encoder() -> None:
    with pytest.raises(DlmieError, match=r"'VGG-16'; did you mean 'vgg16'\? \(known: efficient"):
        models.encoder("VGG-16")
    with pytest.raises(AttributeError, match="VGG11"):
        _ = models.VGG11


@small
def test_names_shapes_and_parameters(name: str) -> None:
    net = models.encoder(name, **SMALL[name])
    assert net.name == name
    assert net["logits"].type.shape == net["probabilities"].type.shape == (None, 9)
    assert net.weights is None
    prefix = f"/{name.replace('-', '_')}/"
    assert all(str(p.name).startswith(prefix) for p in net.parameters)
    summary = net.summary()
    assert "probabilities" in summary
    assert "/pre" not in summary
    with pytest.raises(DlmieError, match="has no layer 'conv99'"):
        net["conv99"]


@small
def test_one_seed_one_network(name: str) -> None:
    def values(**options: Any) -> list[np.ndarray]:
        net = models.encoder(name, **{**SMALL[name], **options})
        return [p.get_value() for p in net.parameters]

    first, again, other = values(), values(), values(seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@small
def test_layers_are_their_activated_pre(name: str) -> None:
    if name == "small-cnn":
        pytest.skip("some of its layers add their input to what was activated")
    net = models.encoder(name, **SMALL[name])
    pairs = [(net[layer], net[layer[:-4]]) for layer in net if layer.endswith("/pre")]
    assert len(pairs) > 9
    # The earliest pairs are enough of a network to compile quickly.
    run = dlmie.function([net.input], [v for pair in pairs[:3] for v in pair])
    size = int(net.input.type.shape[-1])
    x = np.random.default_rng(0).standard_normal((2, 3, size, size)).astype("float32")
    values = run(5 * x)
    ceiling = 6 if name.startswith("efficientnet") else np.inf
    for before, after in zip(values[::2], values[1::2], strict=True):
        assert before.min() < 0 < before.max()
        np.testing.assert_array_equal(after, np.clip(before, 0, ceiling))


@small
def test_another_activation_replaces_every_relu(name: str) -> None:
    net = models.encoder(name, **SMALL[name])
    seen = []

    def guided(x: Variable) -> Variable:
        seen.append(x)
        return pt.maximum(x, np.float32(0))

    view = net.on(net.input, relu=guided)
    joined = 2 if name == "squeezenet" else 1  # expansions are activated apart
    fires = sum(layer.endswith("/squeeze") for layer in net)
    assert len(seen) == sum(layer.endswith("/pre") for layer in net) + (joined - 1) * fires
    ours = [v for v in ancestors([view["logits"]]) if v.owner and "Activation" in str(v.owner.op)]
    assert not ours
    run = dlmie.function([net.input], [net["logits"], view["logits"]])
    size = int(net.input.type.shape[-1])
    x = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype("float32")
    np.testing.assert_allclose(*run(x), rtol=1e-4, atol=1e-5)


@small
def test_any_size_down_to_the_minimum(name: str) -> None:
    net = models.encoder(name, **SMALL[name])
    view = net.on(image_input(None))
    layer = {f"efficientnet-lite{i}": "head" for i in range(3)} | {
        "squeezenet": "fire9",
        "inception-v3": "mixed10",
        "tiny-imagenet": "block8",
        "small-cnn": "conv8",
    }
    run = dlmie.function([view.input], view[layer.get(name, "pool5")])
    for rows, columns in ((net.minimum, net.minimum), (net.minimum + 13, net.minimum + 40)):
        y = run(np.ones((1, 3, rows, columns), "float32"))
        assert min(y.shape) >= 1
        static = net.on(pt.tensor("x", dtype="float32", shape=(1, 3, rows, columns)))
        assert static[layer.get(name, "pool5")].type.shape == y.shape


@small
def test_too_small_images_are_refused(name: str) -> None:
    net = models.encoder(name, **SMALL[name])
    side = net.minimum - 1
    expected = f"{name} needs images of at least {side + 1} × {side + 1} pixels, not {side} × 99"
    with pytest.raises(DlmieError, match=re.escape(expected)):
        net.on(pt.tensor("x", dtype="float32", shape=(None, 3, side, 99)))
    with pytest.raises(DlmieError, match="needs images"):
        net.on(pt.tensor("x", dtype="float32", shape=(None, 1, 99, 99)))
    with pytest.raises(DlmieError, match="needs images"):
        models.encoder(name, **{**SMALL[name], "size": side})


@small
def test_no_unasked_float64(name: str) -> None:
    net = models.encoder(name, **SMALL[name])
    cost = net["probabilities"][:, 3].sum()
    found = ancestors([cost, *pt.grad(cost, [net.input, *net.parameters[:1]])])
    assert not [v for v in found if getattr(v.type, "dtype", "") == "float64"]
    double = models.encoder(name, **SMALL[name], dtype="float64")
    assert double["logits"].type.dtype == "float64"


@small
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    net = models.encoder(name, **SMALL[name])
    net.preprocessing = Preprocessing(net.preprocessing.size, mean=(1.0, 2.0, 3.0), channels="RGB")
    path = net.save(tmp_path / "net.h5")
    again = models.encoder(name, **{**SMALL[name], "weights": path, "seed": 5})
    for a, b in zip(net.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(a.get_value(), b.get_value())
    assert again.weights is not None
    assert again.weights["path"] == str(path)
    assert len(again.weights["sha256"]) == 64
    assert again.preprocessing == net.preprocessing
    with pytest.raises(WeightsError, match=r"logits/W has shape|fc8/b|conv10/b|block10/b"):
        models.encoder(name, **{**SMALL[name], "weights": path, "classes": 8})


@small
def test_foreign_files_are_refused(name: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", apple=np.zeros(3), pear=np.zeros(3))
    options = {**SMALL[name], "weights": tmp_path / "other.npz"}
    with pytest.raises(WeightsError, match=r"other\.npz is not laid out as .* holds apple, pear$"):
        models.encoder(name, **options)
    with pytest.raises(WeightsError, match=r"nothing\.npz does not exist"):
        models.encoder(name, **{**options, "weights": tmp_path / "nothing.npz"})
    if not name.startswith("efficientnet"):
        with pytest.raises(WeightsError, match="no package carries the weights"):
            models.encoder(name, **{**options, "weights": "packaged"})


def test_classes_by_name() -> None:
    net = models.encoder("squeezenet", size=32)
    assert net.class_index("oboe") == 683
    assert net.classes is not None
    assert net.classes[683] == "oboe"
    few = models.encoder("squeezenet", size=32, classes=9)
    assert few.classes is None
    assert few.class_index("8") == 8
    with pytest.raises(DlmieError, match="classes are 0 to 8"):
        few.class_index(9)
