"""SqueezeNet 1.1 with real weights that a user supplies, against PyTorch's stored answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dlmie
from dlmie.errors import WeightsError
from dlmie.models import SqueezeNet
from dlmie.models.encoders.squeezenet import FIRES, TORCHVISION


def test_logits_of_pytorch(shared: Path) -> None:
    golden = json.loads((shared / "golden/squeezenet1_1.json").read_text())
    net = SqueezeNet(shared / "data/weights/squeezenet1_1.npz")
    x = 100 * np.sin(0.01 * np.arange(2 * 3 * 227 * 227)).reshape(2, 3, 227, 227)
    run = dlmie.function([net.input], [net["fire9"], net["logits"]])
    fire9, logits = run(x.astype("float32"))
    np.testing.assert_allclose(logits[:, :10], golden["logits_first10"], rtol=1e-4)
    np.testing.assert_allclose(logits.sum(axis=1), golden["logits_sum"], rtol=1e-5)
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
    assert list(fire9.shape) == golden["fire9_shape"]
    np.testing.assert_allclose(fire9.mean(axis=(1, 2, 3)), golden["fire9_mean"], rtol=1e-5)
    assert net.preprocessing.to_json() == {
        "size": 227,
        "mean": [104.0, 117.0, 123.0],
        "scale": [1.0, 1.0, 1.0],
        "channels": "BGR",
    }


def test_layers() -> None:
    net = SqueezeNet()
    shapes = {
        "conv1": (64, 113, 113),
        "pool1": (64, 56, 56),
        "fire3": (128, 56, 56),
        "fire4": (256, 28, 28),
        "fire4/squeeze": (32, 28, 28),
        "fire6": (384, 14, 14),
        "fire9": (512, 14, 14),
        "fire9/pre": (512, 14, 14),
        "conv10": (1000, 14, 14),
        "logits": (1000,),
    }
    for layer, shape in shapes.items():
        assert net[layer].type.shape == (None, *shape)
    assert all(layer in net for layer in net.features)
    assert "1,235,496" in net.summary()


@pytest.mark.filterwarnings("ignore::dlmie.errors.WeightsWarning")
def test_torchvision_layout(tmp_path: Path) -> None:
    net = SqueezeNet(seed=1, size=64, classes=9)
    values = {str(p.name).removeprefix("/squeezenet/"): p.get_value() for p in net.parameters}
    modules = {"conv1": "features.0", "conv10": "classifier.1"}
    for fire in FIRES:
        for part in ("squeeze", "expand1x1", "expand3x3"):
            modules[f"{fire}/{part}"] = f"features.{TORCHVISION[fire]}.{part}"
    arrays = {}
    for layer, module in modules.items():
        arrays[f"{module}.weight"] = values[f"{layer}/W"]
        arrays[f"{module}.bias"] = values[f"{layer}/b"]
    np.savez(tmp_path / "torchvision.npz", **arrays)
    again = SqueezeNet(tmp_path / "torchvision.npz", size=64, classes=9)
    for a, b in zip(net.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(a.get_value(), b.get_value())
    assert again.preprocessing.channels == "RGB"
    with pytest.raises(WeightsError, match=r"classifier\.1\.weight has shape \(9, 512, 1, 1\)"):
        SqueezeNet(tmp_path / "torchvision.npz", size=64)


def test_half_precision_files(tmp_path: Path) -> None:
    net = SqueezeNet(size=64, classes=9)
    arrays = {}
    for p in net.parameters:
        key = str(p.name).removeprefix("/squeezenet/").replace("squeeze/", "squeeze1x1/")
        arrays[key.replace("/", ".")] = p.get_value().astype("float16")
    np.savez(tmp_path / "half.npz", **arrays)
    again = SqueezeNet(tmp_path / "half.npz", size=64, classes=9)
    assert {p.type.dtype for p in again.parameters} == {"float32"}
