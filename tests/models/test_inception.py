"""Inception-v3 with random weights in the layouts of Keras and torchvision, against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytensor.tensor as pt
import pytest
import torch_inception

import dlmie
from dlmie.data.images import Preprocessing
from dlmie.errors import WeightsError
from dlmie.models import InceptionV3
from dlmie.models.encoders.image_network import ImageNetwork
from dlmie.models.encoders.inception import BLOCKS, STEM, _keras_3_order

#: Small enough to be quick: an eighth of the filters.
SIZE, CLASSES, WIDTH = 107, 9, 0.125
SMALL: dict[str, Any] = {"size": SIZE, "classes": CLASSES, "width": WIDTH}
#: Our layers, and PyTorch's.
LAYERS = {
    "mixed0": "Mixed_5b", "mixed2": "Mixed_5d", "mixed3": "Mixed_6a", "mixed7": "Mixed_6e",
    "mixed8": "Mixed_7a", "mixed10": "Mixed_7c", "pool": "pool", "logits": "logits",
}  # fmt: skip
#: Where Keras 3.15 has each convolution, counted as they are made, in ``model.layers``.
KERAS_3 = [
    *(0, 1, 2, 3, 4, 8, 6, 9, 5, 7, 10, 11, 15, 13, 16, 12, 14, 17, 18, 22, 20, 23, 19, 21),
    *(24, 25, 27, 28, 26, 29, 34, 35, 31, 36, 32, 37, 30, 33, 38, 39, 44, 45, 41, 46, 42, 47),
    *(40, 43, 48, 49, 54, 55, 51, 56, 52, 57, 50, 53, 58, 59, 64, 65, 61, 66, 62, 67, 60, 63),
    *(68, 69, 72, 73, 70, 74, 71, 75, 80, 77, 81, 78, 79, 82, 83, 76, 84, 89, 86, 90, 87, 88),
    *(91, 92, 85, 93),
]


class Reference(NamedTuple):
    """Weights, an image, and what PyTorch makes of it."""

    weights: torch_inception.Drawn
    x: np.ndarray
    outputs: dict[str, np.ndarray]
    gradient: np.ndarray  # of the fourth logit with respect to the image


def reference(*, keras: bool) -> Reference:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install dlmie[bench]")
    weights = torch_inception.Drawn(0, scaled=not keras)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, SIZE, SIZE)).astype("float32")
    image = torch.from_numpy(x).requires_grad_()
    out = torch_inception.inception(
        torch, weights, image, width=WIDTH, classes=CLASSES, count_include_pad=not keras
    )
    out["logits"][0, 3].backward()
    outputs = {name: value.detach().numpy() for name, value in out.items()}
    return Reference(weights, x, outputs, image.grad.numpy())


@pytest.fixture(scope="module")
def torchvision() -> Reference:
    return reference(keras=False)


@pytest.fixture(scope="module")
def keras() -> Reference:
    return reference(keras=True)


def assert_equal(net: InceptionV3, expected: Reference) -> None:
    gradient = pt.grad(net["logits"][0, 3], net.input)
    run = dlmie.function([net.input], [*(net[layer] for layer in LAYERS), gradient])
    *found, slope = run(expected.x)
    for layer, values in zip(LAYERS, found, strict=True):
        theirs = expected.outputs[LAYERS[layer]]
        np.testing.assert_allclose(values, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())
    largest = np.abs(expected.gradient).max()
    np.testing.assert_allclose(slope, expected.gradient, rtol=1e-2, atol=1e-3 * largest)


def write_keras(path: Path, weights: torch_inception.Drawn, *, first: int = 1) -> Path:
    """A file as ``save_weights`` of Keras 2 wrote it; layers by the number they were made with."""
    with h5py.File(path, "w") as file:
        names = []
        for number, unit in enumerate(weights.order, first):
            w, _, beta, mean, variance = weights.unit(unit, ())
            arrays = {
                "conv2d": {"kernel:0": w.transpose(2, 3, 1, 0)},
                "batch_normalization": {
                    "beta:0": beta, "moving_mean:0": mean, "moving_variance:0": variance,
                },
            }  # fmt: skip
            for kind, parts in arrays.items():
                layer = f"{kind}_{number}" if number else kind
                names.append(layer)
                group = file.create_group(f"{layer}/{layer}")
                for part, array in parts.items():
                    group[part] = array
                file[layer].attrs["weight_names"] = [f"{layer}/{part}".encode() for part in parts]
        names = names[::-1]  # by depth, not by number
        if "fc.weight" in weights.state:
            names.append("predictions")
            group = file.create_group("predictions/predictions")
            group["kernel:0"], group["bias:0"] = (
                weights.state["fc.weight"].T,
                weights.state["fc.bias"],
            )
            file["predictions"].attrs["weight_names"] = [
                b"predictions/kernel:0", b"predictions/bias:0",
            ]  # fmt: skip
        file.attrs["layer_names"] = [name.encode() for name in names]
    return path


def write_keras_3(path: Path, weights: torch_inception.Drawn) -> Path:
    """A ``.weights.h5`` of Keras 3: layers by their place in the model, arrays by number."""
    with h5py.File(path, "w") as file:
        for place, made in enumerate(KERAS_3):
            w, _, *norm = weights.unit(weights.order[made], ())
            suffix = f"_{place}" if place else ""
            file[f"layers/conv2d{suffix}/vars/0"] = w.transpose(2, 3, 1, 0)
            for number, array in enumerate(norm):
                file[f"layers/batch_normalization{suffix}/vars/{number}"] = array
        file["layers/dense/vars/0"] = weights.state["fc.weight"].T
        file["layers/dense/vars/1"] = weights.state["fc.bias"]
    return path


def write_torch(path: Path, weights: torch_inception.Drawn, **more: np.ndarray) -> Path:
    """torchvision's state dict, as NumPy holds it."""
    counts = {f"{unit}.bn.num_batches_tracked": np.array(3) for unit in weights.order}
    np.savez(path, **weights.state, **counts, **more)
    return path


def test_torchvisions_network(torchvision: Reference, tmp_path: Path) -> None:
    auxiliary = {"AuxLogits.fc.weight": np.zeros((CLASSES, 5), "float32")}
    path = write_torch(tmp_path / "inception.npz", torchvision.weights, **auxiliary)
    net = InceptionV3(path, **SMALL)
    assert net.count_include_padding
    assert net.preprocessing == Preprocessing(SIZE, mean=(127.5,) * 3, scale=(127.5,) * 3)
    assert_equal(net, torchvision)
    again = InceptionV3(net.save(tmp_path / "ours.h5"), **SMALL)
    assert again.count_include_padding
    assert again.options == {"count_include_padding": True, "width": WIDTH}


def test_kerass_network(keras: Reference, tmp_path: Path) -> None:
    net = InceptionV3(write_keras(tmp_path / "inception.h5", keras.weights), **SMALL)
    assert not net.count_include_padding
    assert_equal(net, keras)
    values = [p.get_value() for p in net.parameters]
    # Numbered from 0, and as Keras 3 writes it: the same network.
    for path in (
        write_keras(tmp_path / "from_0.h5", keras.weights, first=0),
        write_keras(tmp_path / "from_95.h5", keras.weights, first=95),
        write_keras_3(tmp_path / "keras_3.weights.h5", keras.weights),
    ):
        other = InceptionV3(path, **SMALL)
        for mine, theirs in zip(values, other.parameters, strict=True):
            np.testing.assert_array_equal(mine, theirs.get_value())


def test_a_file_without_the_top(keras: Reference, tmp_path: Path) -> None:
    bare = torch_inception.Drawn(0, scaled=False)
    bare.order = keras.weights.order
    bare.state = {n: a for n, a in keras.weights.state.items() if not n.startswith("fc.")}
    path = write_keras(tmp_path / "notop.h5", bare)
    net = InceptionV3(path, **SMALL)
    assert "logits" not in net
    assert net["pool"].type.shape == (None, 256)
    assert net.options["top"] is False
    with pytest.raises(WeightsError, match=r"predictions/kernel is missing.*top=False"):
        InceptionV3(path, **SMALL, top=True)
    without = InceptionV3(write_keras(tmp_path / "top.h5", keras.weights), **SMALL, top=False)
    assert "logits" not in without


def test_the_average_pool_can_be_chosen(keras: Reference, tmp_path: Path) -> None:
    path = write_keras(tmp_path / "inception.h5", keras.weights)
    net = InceptionV3(path, **SMALL, count_include_padding=True)
    assert net.count_include_padding
    plain = InceptionV3(**SMALL)
    theirs = write_torch(tmp_path / "inception.npz", keras.weights)
    with pytest.raises(WeightsError, match="trained with the average pools of torchvision"):
        plain.load(theirs)
    plain.load(path)


def test_order_of_keras_3() -> None:
    units = [unit.name for unit in STEM]
    units += [f"mixed{i}/{unit.name}" for i, block in enumerate(BLOCKS) for unit in block.units]
    assert _keras_3_order() == [units[made] for made in KERAS_3]


def test_parameters_and_layers() -> None:
    net = InceptionV3()
    sizes = {str(p.name): p.get_value(borrow=True).size for p in net.parameters}
    kernels = sum(n for name, n in sizes.items() if name.endswith("/W") and "logits" not in name)
    biases = sum(n for name, n in sizes.items() if name.endswith("/b") and "logits" not in name)
    # What Keras counts without the top: three numbers for each filter's batch norm.
    assert kernels + 3 * biases == 21_802_784
    # What torchvision counts without the auxiliary head: two for each, and the top.
    assert kernels + 2 * biases + 2049 * 1000 == 23_834_568
    shapes = {
        "conv1a": (32, 149, 149),
        "pool1": (64, 73, 73),
        "pool2": (192, 35, 35),
        "mixed0": (256, 35, 35),
        "mixed2": (288, 35, 35),
        "mixed3": (768, 17, 17),
        "mixed7": (768, 17, 17),
        "mixed8": (1280, 8, 8),
        "mixed10": (2048, 8, 8),
        "pool": (2048,),
    }
    for layer, shape in shapes.items():
        assert net[layer].type.shape == (None, *shape)
    assert isinstance(net, ImageNetwork)


def test_a_file_of_another_width_is_refused(keras: Reference, tmp_path: Path) -> None:
    path = write_keras(tmp_path / "inception.h5", keras.weights)
    with pytest.raises(WeightsError, match=r"conv2d_1/kernel has shape \(3, 3, 3, 4\), the net"):
        InceptionV3(path, size=SIZE, classes=CLASSES)
