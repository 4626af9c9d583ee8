"""The cs231n network for TinyImageNet, against a NumPy definition of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytensor.tensor as pt
import pytest

import dlmie
from dlmie.errors import DlmieError, WeightsError
from dlmie.models import PretrainedCNN

SMALL: dict[str, Any] = {
    "filters": (2, 4, 5, 6, 7),  # no 3: a transpose of (3, 3, 3, 3) would pass unnoticed
    "units": 7,
    "classes": 9,
    "dtype": "float64",
}
Params = dict[str, np.ndarray]


def course_parameters(seed: int = 0) -> Params:
    """Random values of everything in ``pretrained_model.h5``, for the small network."""
    rng = np.random.default_rng(seed)
    net = PretrainedCNN(**SMALL)
    names = {"mean": "running_mean", "variance": "running_var"}
    found = {}
    for p in net.parameters:
        _, _, block, part = str(p.name).split("/")
        value = 0.5 * rng.standard_normal(tuple(p.type.shape))
        if part in ("gamma", "variance"):
            value = 0.5 + value**2
        found[f"{names.get(part, part)}{int(block[5:]) + 1}"] = value
    return found


def write(path: Path, params: Params) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in params.items():
            file[name] = value
    return path


def correlate(x: np.ndarray, W: np.ndarray, stride: int) -> np.ndarray:
    side = W.shape[-1]
    p = side // 2
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(2, 3))
    return np.einsum("ncrsij,fcij->nfrs", windows[:, :, ::stride, ::stride], W)


def reference(params: Params, x: np.ndarray, train: bool = False) -> list[np.ndarray]:
    """The output of every block, as the course's text defines it."""
    outputs = []
    for i in range(11):
        W, b = params[f"W{i + 1}"], params[f"b{i + 1}"]
        if i < 9:
            x = correlate(x, W, 2 if i % 2 == 0 else 1) + b[:, None, None]
        else:
            x = x.reshape(len(x), -1) @ W + b
        if i < 10:
            axes = tuple(k for k in range(x.ndim) if k != 1)
            shape = (-1, *[1] * (x.ndim - 2))
            mean = x.mean(axes) if train else params[f"running_mean{i + 1}"]
            variance = x.var(axes) if train else params[f"running_var{i + 1}"]
            x = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + 1e-5)
            gamma, beta = params[f"gamma{i + 1}"], params[f"beta{i + 1}"]
            x = np.maximum(x * gamma.reshape(shape) + beta.reshape(shape), 0)
        outputs.append(x)
    return outputs


@pytest.fixture(scope="module")
def params() -> Params:
    return course_parameters()


@pytest.fixture(scope="module")
def net(params: Params, tmp_path_factory: pytest.TempPathFactory) -> PretrainedCNN:
    path = write(tmp_path_factory.mktemp("cs231n") / "pretrained_model.h5", params)
    return PretrainedCNN(path, **SMALL)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, 3, 64, 64))


def test_every_block(net: PretrainedCNN, params: Params, x: np.ndarray) -> None:
    run = dlmie.function([net.input], [net[f"block{i}"] for i in range(11)])
    for got, expected in zip(run(x), reference(params, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_shapes_of_the_full_network() -> None:
    net = PretrainedCNN()
    shapes = [(64, 32, 32), (64, 32, 32), (128, 16, 16), (128, 16, 16), (256, 8, 8), (256, 8, 8)]
    shapes += [(512, 4, 4), (512, 4, 4), (1024, 2, 2)]
    assert [net[f"block{i}"].type.shape[1:] for i in range(9)] == shapes
    assert net["block9"].type.shape == (None, 512)
    assert net["block10"].type.shape == net["logits"].type.shape == (None, 100)


def test_partial_forward(net: PretrainedCNN, params: Params, x: np.ndarray) -> None:
    blocks = reference(params, x)
    features = pt.tensor("features", dtype="float64", shape=(None, *blocks[4].shape[1:]))
    onward = net.on(features, start=5)
    assert "block4" not in onward
    run = dlmie.function([features], [onward["block7"], onward["logits"]])
    seven, logits = run(blocks[4])
    np.testing.assert_allclose(seven, blocks[7], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(logits, blocks[10], rtol=1e-9, atol=1e-9)
    assert list(net.on(net.input, end=3))[-1] == "block3"
    for start, end in ((-1, 3), (5, 4), (0, 11)):
        with pytest.raises(DlmieError, match="blocks 0 to 10"):
            net.on(net.input, start=start, end=end)


def test_partial_backward(net: PretrainedCNN, params: Params, x: np.ndarray) -> None:
    # What the course calls backward(dout, cache): from block 6 back to what block 5 reads.
    block4 = reference(params, x)[4]
    features = pt.tensor("features", dtype="float64", shape=(None, *block4.shape[1:]))
    six = net.on(features, start=5, end=6)["block6"]
    dout = np.random.default_rng(2).standard_normal((3, *six.type.shape[1:]))
    cost = (six * dout).sum()
    weights = net.layers[5].W
    run = dlmie.function([features], [cost, *pt.grad(cost, [features, weights])])
    _, back, dW = run(block4)
    for place in [(0, 1, 2, 3), (2, 4, 7, 0)]:
        moved = np.zeros_like(block4)
        moved[place] = 1e-6
        slope = (run(block4 + moved)[0] - run(block4 - moved)[0]) / 2e-6
        assert back[place] == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert dW.shape == tuple(weights.type.shape)
    assert np.abs(dW).max() > 0


@pytest.mark.parametrize(("end", "index"), [(0, 1), (4, 2), (8, 5), (9, 6), (10, 3)])
def test_a_single_filter(
    net: PretrainedCNN, params: Params, x: np.ndarray, end: int, index: int
) -> None:
    one = dlmie.function([net.input], net.filter(net.input, index, end=end))(x)
    expected = reference(params, x)[end][:, index : index + 1]
    np.testing.assert_allclose(one, expected, rtol=1e-9, atol=1e-9)


def test_a_single_filter_from_features(net: PretrainedCNN, params: Params, x: np.ndarray) -> None:
    blocks = reference(params, x)
    features = pt.tensor("features", dtype="float64", shape=(None, *blocks[4].shape[1:]))
    run = dlmie.function([features], net.filter(features, 0, start=5, end=5))
    np.testing.assert_allclose(run(blocks[4]), blocks[5][:, :1], rtol=1e-9, atol=1e-9)
    with pytest.raises(DlmieError, match="block 5 of tiny-imagenet has filters 0 to 4, not 5"):
        net.filter(features, 5, start=5, end=5)


def test_training_loss(net: PretrainedCNN, params: Params, x: np.ndarray) -> None:
    labels = pt.tensor("labels", dtype="int32", shape=(None,))
    y = np.array([3, 0, 8], "int32")
    loss, updates = net.loss(net.input, labels)
    assert len(updates) == 20
    value, mean = dlmie.function([net.input, labels], [loss, updates[0][1]])(x, y)
    scores = reference(params, x, train=True)[-1]
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(value, -log_p[np.arange(3), y].mean(), rtol=1e-8)
    raw = correlate(x, params["W1"], 2) + params["b1"][:, None, None]
    expected = 0.9 * params["running_mean1"] + 0.1 * raw.mean(axis=(0, 2, 3))
    np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-12)
    trainable = {str(p.name) for p in net.parameters if "trainable" in p.roles}
    assert not any(name.endswith(("/mean", "/variance")) for name in trainable)


def test_transposed_weights_are_turned(net: PretrainedCNN, params: Params, tmp_path: Path) -> None:
    turned = {name: value.T for name, value in params.items()}
    again = PretrainedCNN(write(tmp_path / "turned.h5", turned), **SMALL)
    for a, b in zip(net.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(a.get_value(), b.get_value())


def test_any_other_mismatch_is_named(params: Params, tmp_path: Path) -> None:
    bad = dict(params)
    del bad["b3"]
    bad["W2"] = bad["W2"][:, :1]
    bad["gamma11"] = np.ones(9)
    with pytest.raises(WeightsError) as caught:
        PretrainedCNN(write(tmp_path / "bad.h5", bad), **SMALL)
    for part in ("b3 is missing", "W2 has shape (2, 1, 3, 3)", "gamma11 is not part of"):
        assert part in str(caught.value)


def test_other_sizes_leave_the_affine_layers_out() -> None:
    view = PretrainedCNN(**SMALL).on(pt.tensor("x", dtype="float64", shape=(1, 3, 256, 200)))
    assert view["block8"].type.shape == (1, 7, 8, 7)
    assert "logits" not in view
