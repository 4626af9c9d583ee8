"""VGG: the layouts of three programs, against PyTorch's answers for the same weights."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.errors import DlmieError, WeightsError, WeightsWarning
from dlmie.graph.network import image_input
from dlmie.models import VGG16, VGG19
from dlmie.models.encoders import preprocessings
from dlmie.weights import read, sha256

GOLDEN = Path(__file__).parents[1] / "golden/vgg"  # written by make_vgg.py
ARCHITECTURE: dict[str, Any] = {
    "channels": (2, 3, 4, 5, 6),
    "units": 7,
    "classes": 9,
    "grid": 2,
    "size": 64,
}
FILES = ["vgg16.pth", "vgg16_keras.h5", "vgg16.npy", "vgg19.pth"]

# Whether files in torchvision's layout are torchvision's has a test of its own, below.
pytestmark = pytest.mark.filterwarnings("ignore::dlmie.errors.WeightsWarning")


def small(file: str | Path | None, **options: Any) -> VGG16 | VGG19:
    kind = VGG19 if file and "vgg19" in str(file) else VGG16
    path = None if file is None else GOLDEN / file
    return kind(path, **{**ARCHITECTURE, **options})


def image(rows: int, columns: int, dtype: str = "float64") -> np.ndarray:
    count = 2 * 3 * rows * columns
    return np.sin(0.37 * np.arange(count) ** 1.1).reshape(2, 3, rows, columns).astype(dtype)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
def test_equals_pytorch(file: str, dtype: str, tolerance: float) -> None:
    net = small(file, dtype=dtype)
    with np.load(GOLDEN / "expected.npz") as stored:
        expected = {k.split("/", 1)[1]: stored[k] for k in stored if k.startswith(net.name + "/")}
    last = [layer for layer in net if layer.startswith("conv")][-1]
    outputs = {
        "conv2_1": net["conv2_1"][:, :, ::8, ::8],
        last: net[last],
        f"{last}/pre": net[f"{last}/pre"],
        "fc6": net["fc6"],
        "logits": net["fc8"],
        "gradient": pt.grad(net["fc8"][:, 4].sum(), net.input)[:, :, ::8, ::8],
    }
    values = dlmie.function([net.input], list(outputs.values()))(image(64, 64, dtype))
    assert expected.keys() - outputs.keys() == {"dense_logits"}
    for layer, value in zip(outputs, values, strict=True):
        scale = np.abs(expected[layer]).max()
        assert np.abs(value - expected[layer]).max() < tolerance * scale, layer
    assert net.weights == {"path": str(GOLDEN / file), "sha256": sha256(GOLDEN / file)}


def test_larger_images_are_evaluated_densely() -> None:
    net = small("vgg16.pth", dtype="float64")
    view = net.on(pt.tensor("x", dtype="float64", shape=(None, 3, 96, 128)))
    assert view["fc6"].type.shape == (None, 7, 2, 3)
    any_size = net.on(image_input(None, "float64"))
    x, x64 = image(96, 128), image(64, 64)
    with np.load(GOLDEN / "expected.npz") as stored:
        got = dlmie.function([view.input], view["logits"])(x)
        np.testing.assert_allclose(got, stored["vgg16/dense_logits"], rtol=1e-10)
        at_any_size = dlmie.function([any_size.input], any_size["logits"])
        np.testing.assert_allclose(at_any_size(x), stored["vgg16/dense_logits"], rtol=1e-10)
        np.testing.assert_allclose(at_any_size(x64), stored["vgg16/logits"], rtol=1e-10)


def test_smaller_images_leave_the_top_out() -> None:
    view = small(None).on(pt.tensor("x", dtype="float32", shape=(None, 3, 64, 63)))
    assert "pool5" in view
    assert "fc6" not in view
    assert "logits" not in view
    with pytest.raises(DlmieError, match="at least 64 × 64 pixels, not 63 × 63: pass top=False"):
        small(None, size=63, top=True)
    net = small("vgg16_keras.h5", size=63)
    assert net["pool5"].type.shape == (None, 6, 1, 1)
    assert "fc6" not in net


def test_full_size() -> None:
    net = VGG19(None, top=False)
    assert net["conv5_4"].type.shape == (None, 512, 14, 14)
    assert net["pool5"].type.shape == (None, 512, 7, 7)
    convolutions = {"conv1_1", "conv1_2", "conv2_1", "conv2_2"}
    convolutions |= {f"conv{stage}_{i}" for stage in (3, 4, 5) for i in (1, 2, 3, 4)}
    assert {layer for layer in net if re.fullmatch(r"conv\d_\d", layer)} == convolutions
    assert "20,024,384" in net.summary()


@pytest.mark.parametrize("file", FILES)
def test_without_the_top(file: str, tmp_path: Path) -> None:
    net, whole = small(file, top=False), small(file)
    assert list(net)[-1] == "pool5"
    stored = {str(p.name): p.get_value() for p in whole.parameters}
    for p in net.parameters:
        np.testing.assert_array_equal(p.get_value(), stored[str(p.name)])
    assert len(whole.parameters) == len(net.parameters) + 6
    path = whole.save(tmp_path / "whole.h5")
    again = type(net)(path, **ARCHITECTURE, top=False)
    np.testing.assert_array_equal(again.parameters[0].get_value(), net.parameters[0].get_value())


@pytest.mark.parametrize(
    ("file", "channels", "first"),
    [
        ("vgg16.pth", "RGB", 255 * 0.485),
        ("vgg16_keras.h5", "BGR", 103.939),
        ("vgg16.npy", "BGR", 103.939),
    ],
)
def test_preprocessing_follows_the_layout(file: str, channels: str, first: float) -> None:
    preprocessing = small(file).preprocessing
    assert preprocessing.channels == channels
    assert preprocessing.mean[0] == pytest.approx(first)
    assert preprocessing.size == 64


@pytest.mark.parametrize("name", ["block1_conv1/block1_conv1_W_1:0", "block1_conv1/kernel"])
def test_keras_names_without_its_attributes(name: str, tmp_path: Path) -> None:
    template = name.replace("block1_conv1", "{}")
    arrays = read(GOLDEN / "vgg16_keras.h5")
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        for key, array in arrays.items():
            layer, part = key.split("/")
            own = template.format(*[layer] * template.count("{}"))
            if part.startswith("b"):
                own = own.replace("_W_", "_b_").replace("/kernel", "/bias")
            file[own] = array
    net = small(None)
    net.load(tmp_path / "flat.h5")
    reference = small("vgg16.pth")
    for a, b in zip(net.parameters, reference.parameters, strict=True):
        np.testing.assert_array_equal(a.get_value(), b.get_value())


def test_every_mismatch_is_named_and_nothing_assigned(tmp_path: Path) -> None:
    arrays = read(GOLDEN / "vgg16.pth")
    arrays = {name: np.array(array) for name, array in arrays.items()}
    del arrays["features.5.bias"]
    arrays["features.0.weight"] = arrays["features.0.weight"][:, :, :2]
    arrays["classifier.6.bias"] = np.arange(9)
    arrays["features.1.running_mean"] = np.zeros(2, "float32")
    np.savez(tmp_path / "bad.npz", **arrays)
    net = small(None)
    before = [p.get_value() for p in net.parameters]
    with pytest.raises(WeightsError) as caught:
        net.load(tmp_path / "bad.npz")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        f"{tmp_path / 'bad.npz'} does not fit the network: ",
        "features.5.bias is missing",
        "features.0.weight has shape (2, 3, 2, 3), the network needs (2, 3, 3, 3)",
        "classifier.6.bias holds int64, the network needs floats",
        "features.1.running_mean is not part of the network",
    ):
        assert part in message
    for p, old in zip(net.parameters, before, strict=True):
        np.testing.assert_array_equal(p.get_value(), old)
    assert net.weights is None


def test_a_file_without_top_is_explained(tmp_path: Path) -> None:
    with h5py.File(GOLDEN / "vgg16_keras.h5") as file, h5py.File(tmp_path / "no.h5", "w") as new:
        for layer in file:
            if layer.startswith("block"):
                file.copy(layer, new)
    with pytest.raises(WeightsError, match=r"fc1/kernel is missing.*\(pass top=False"):
        small(tmp_path / "no.h5", top=True)
    for top in (None, False):
        net = small(tmp_path / "no.h5", top=top)
        assert "pool5" in net
        assert "fc6" not in net
        assert "fc6" not in net.on(net.input)
        assert net["conv5_3"].tag.network is net
    again = small(net.save(tmp_path / "own.h5"))
    assert list(again) == list(net)
    with pytest.raises(WeightsError, match="pass top=False"):
        small(None).load(tmp_path / "no.h5")


def test_another_depth_does_not_fit(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "vgg19.pth", tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"features\.16\.weight is missing|not part of"):
        VGG16(tmp_path / "weights.pth", **ARCHITECTURE)


def test_against_torch_live() -> None:
    torch = pytest.importorskip("torch")
    net = small(None, seed=3)
    x = image(64, 64, "float32")
    y = torch.from_numpy(x)
    arrays = {str(p.name).removeprefix("/vgg16/"): p.get_value() for p in net.parameters}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for stage, count in enumerate(net.convolutions, start=1):
        for i in range(1, count + 1):
            W, b = tensors[f"conv{stage}_{i}/W"], tensors[f"conv{stage}_{i}/b"]
            y = torch.conv2d(y, W, b, padding=1).relu()
        y = torch.max_pool2d(y, 2)
    y = y.flatten(1)
    for layer in ("fc6", "fc7", "fc8"):
        y = y @ tensors[f"{layer}/W"] + tensors[f"{layer}/b"]
        y = y if layer == "fc8" else y.relu()
    got = dlmie.function([net.input], net["probabilities"])(x)
    np.testing.assert_allclose(got, torch.softmax(y, 1).numpy(), rtol=1e-4)


def rewritten(arrays: dict[str, np.ndarray], path: Path, prefix: str, removed: str) -> Path:
    np.savez(path, **{prefix + name.removeprefix(removed): a for name, a in arrays.items()})
    return path


def assert_equal_parameters(net: VGG16 | VGG19, file: str) -> None:
    expected = {str(p.name): p.get_value() for p in small(file).parameters}
    for p in net.parameters:
        np.testing.assert_array_equal(p.get_value(), expected[str(p.name)])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "net.vgg."])
@pytest.mark.parametrize("file", ["vgg16.pth", "vgg19.pth"])
def test_what_all_names_begin_with_does_not_matter(file: str, prefix: str, tmp_path: Path) -> None:
    named = rewritten(read(GOLDEN / file), tmp_path / f"{Path(file).stem}.npz", prefix, "")
    assert_equal_parameters(small(named), file)


@pytest.mark.parametrize("file", ["vgg16.pth", "vgg19.pth"])
def test_the_state_of_features_alone(file: str, tmp_path: Path) -> None:
    arrays = {n: a for n, a in read(GOLDEN / file).items() if n.startswith("features.")}
    net = small(rewritten(arrays, tmp_path / f"{Path(file).stem}.npz", "", "features."))
    assert "fc6" not in net
    assert_equal_parameters(net, file)


@pytest.mark.parametrize("top", [False, True])
@pytest.mark.parametrize("inside", ["layers/", "layers/functional/layers/"])
def test_keras_3_numbers_its_layers(top: bool, inside: str, tmp_path: Path) -> None:
    arrays = read(GOLDEN / "vgg16_keras.h5")
    layers = list(dict.fromkeys(name.partition("/")[0] for name in arrays))
    counts = {"conv2d": 0, "dense": 0}
    with h5py.File(tmp_path / "vgg16.weights.h5", "w") as file:
        for layer in layers:
            kind = "conv2d" if layer.startswith("block") else "dense"
            if kind == "dense" and not top:
                continue
            group = f"{inside}{kind}" + (f"_{counts[kind]}" if counts[kind] else "")
            counts[kind] += 1
            parts = [name for name in arrays if name.startswith(f"{layer}/")]
            for part in parts:
                file[f"{group}/vars/{0 if arrays[part].ndim > 1 else 1}"] = arrays[part]
        file.create_group("layers/max_pooling2d/vars")
    net = small(tmp_path / "vgg16.weights.h5")
    assert ("fc6" in net) == top
    assert net.preprocessing.channels == "BGR"
    assert_equal_parameters(net, "vgg16_keras.h5")


@pytest.mark.parametrize("ordering", ["tf", "th"])
def test_kernels_of_theano_are_turned(ordering: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "vgg16_keras.h5", tmp_path / "vgg16.h5")
    with h5py.File(tmp_path / "vgg16.h5", "r+") as file:
        file.attrs["backend"] = b"theano"
        for layer in file:
            for name in file[layer].attrs["weight_names"]:
                path = f"{layer}/{name}"
                array = file[path][()]
                if array.ndim != 4:
                    continue
                del file[path]
                turned = array[::-1, ::-1]
                file[path] = turned if ordering == "tf" else turned.transpose(3, 2, 0, 1)
        if ordering == "th":  # there the rows of fc1 are channels first, too
            for layer in ("fc1", "fc2", "predictions"):
                del file[layer]
            layers = [name for name in file.attrs["layer_names"] if name.startswith("block")]
            file.attrs["layer_names"] = layers
    assert_equal_parameters(small(tmp_path / "vgg16.h5"), "vgg16_keras.h5")


@pytest.mark.filterwarnings("error::dlmie.errors.WeightsWarning")
def test_whose_preprocessing_is_assumed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(WeightsWarning, match=r"torchvision's preprocessing is assumed.*caffe"):
        assert small("vgg16.pth").preprocessing.channels == "RGB"
    for file in ("vgg16_keras.h5", "vgg16.npy"):
        small(file)  # these layouts are Caffe's
    digest = sha256(GOLDEN / "vgg16.pth")
    monkeypatch.setitem(preprocessings._PUBLISHED, digest[:8], "caffe")
    assert small("vgg16.pth").preprocessing.channels == "BGR"
    shutil.copy(GOLDEN / "vgg19.pth", tmp_path / "vgg19-d01eb7cb.pth")
    assert small(tmp_path / "vgg19-d01eb7cb.pth").preprocessing.mean[0] == 103.939


@pytest.mark.filterwarnings("error::dlmie.errors.WeightsWarning")
@pytest.mark.parametrize("file", FILES)
def test_a_preprocessing_of_ones_own(file: str) -> None:
    net = small(file, preprocessing="minus-one-to-one")
    assert (net.preprocessing.mean, net.preprocessing.scale) == ((127.5,) * 3, (127.5,) * 3)
    assert net.preprocessing.size == 64
    assert net.options == {"preprocessing": "minus-one-to-one"}
    with pytest.raises(DlmieError, match=r"unknown preprocessing 'cafe'; did you mean 'caffe'\?"):
        small(file, preprocessing="cafe")
