"""HDF5 files in the layouts of Keras 1, 2 and 3, and flat ones."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dlmie.errors import WeightsError, WeightsWarning
from dlmie.weights import read

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(3, 3, 3, 4)).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)


def write_keras(group: Any, weights: dict[str, list[str]]) -> None:
    """As `keras.Model.save_weights` does: attributes name the layers and their weights."""
    group.attrs["layer_names"] = [name.encode() for name in weights]
    group.attrs["backend"] = b"tensorflow"
    for layer, names in weights.items():
        part = group.create_group(layer)
        part.attrs["weight_names"] = [name.encode() for name in names]
        for name, value in zip(names, (KERNEL, BIAS), strict=False):
            part.create_dataset(name, data=value)


@pytest.mark.parametrize("whole_model", [False, True])
@pytest.mark.parametrize("suffixes", [("/kernel:0", "/bias:0"), ("_W_1:0", "_b_1:0")])
def test_layers_come_in_keras_order(
    tmp_path: Path, whole_model: bool, suffixes: tuple[str, str]
) -> None:
    layers = ["input_1", "conv_2", "conv_10", "a_last"]
    weights = {layer: [layer + suffix for suffix in suffixes] for layer in layers}
    weights["input_1"] = []
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_keras(file.create_group("model_weights") if whole_model else file, weights)
        if whole_model:
            file.attrs["model_config"] = "{}"
            file["optimizer_weights/Adam/m"] = KERNEL
    arrays = read(tmp_path / "w.h5")
    short = [suffix[1:].removesuffix(":0") for suffix in suffixes]
    assert list(arrays) == [f"{layer}/{part}" for layer in layers[1:] for part in short]
    np.testing.assert_array_equal(arrays[f"conv_10/{short[0]}"], KERNEL)


def test_long_lists_of_layers_are_split_into_numbered_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_keras(file, {name: [f"{name}/kernel:0"] for name in ("b", "a")})
        del file.attrs["layer_names"]
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"b"], [b"a"]
    assert list(read(tmp_path / "w.h5")) == ["b/kernel", "a/kernel"]


def test_keras_3_nested_groups_keep_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = KERNEL
        file["layers/conv2d/vars/1"] = BIAS
        file["optimizer/vars/0"] = np.int64(3)
        file.create_group("layers/flatten/vars")
    arrays = read(path)
    assert list(arrays) == ["layers/conv2d/vars/0", "layers/conv2d/vars/1"]
    np.testing.assert_array_equal(arrays["layers/conv2d/vars/1"], BIAS)


def test_flat_file_such_as_pretrained_model_h5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pretrained_model.h5", "w") as file:
        file["W1"] = KERNEL.astype(np.float64)
        file["running_mean1"] = BIAS.astype(">f4")
        file["label"] = "text is no weight"
    arrays = read(tmp_path / "pretrained_model.h5")
    assert arrays["W1"].dtype == np.float64
    assert list(arrays) == ["W1", "running_mean1"]
    assert arrays["running_mean1"].dtype.isnative


def test_listed_but_missing_weight(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        write_keras(file, {"conv": ["conv/kernel:0", "conv/bias:0"]})
        del file["conv/conv/bias:0"]
    with pytest.raises(WeightsError, match="lists conv/conv/bias:0, which is not there"):
        read(tmp_path / "w.h5")


def test_other_files_are_not_opened_through_links(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["W"] = BIAS
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["b"] = BIAS
        file["linked"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/W")
    assert list(read(tmp_path / "w.h5")) == ["b"]

    (tmp_path / "secret.txt").write_bytes(b"s" * 16)
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("W", (16,), "u1", external=[(str(tmp_path / "secret.txt"), 0, 16)])
    with pytest.raises(WeightsError, match="takes W from another file; refused"):
        read(tmp_path / "raw.h5")

    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "W", (4,))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("W", layout)
    with pytest.raises(WeightsError, match="takes W from another file; refused"):
        read(tmp_path / "virtual.h5")


def test_keras_layer_behind_an_external_link_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        write_keras(file, {"conv": ["conv/kernel:0"]})
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file["conv"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/conv")
    with pytest.raises(WeightsError, match="lists conv, which is not there"):
        read(tmp_path / "w.h5")


def test_dataset_larger_than_its_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("W", (2**40,), "f4", chunks=(2**20,))  # nothing is allocated
    with pytest.raises(WeightsError, match="declares 4,398,046,511,104 bytes of arrays in a file"):
        read(tmp_path / "bomb.h5")


@pytest.mark.parametrize("whole_model", [False, True])
def test_kernels_of_theano_are_turned(tmp_path: Path, whole_model: bool) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        write_keras(group, {"conv": ["conv_W", "conv_b"]})
        group.attrs["backend"] = "theano"
    arrays = read(tmp_path / "w.h5")
    np.testing.assert_array_equal(arrays["conv/W"], KERNEL[::-1, ::-1])
    np.testing.assert_array_equal(arrays["conv/b"], BIAS)


@pytest.mark.parametrize("backend", [None, "tensorflow"])
def test_a_name_says_theano_only_where_the_file_does_not(
    tmp_path: Path, backend: str | None
) -> None:
    path = tmp_path / "vgg16_weights_tf_dim_ordering_th_kernels.h5"
    with h5py.File(path, "w") as file:
        write_keras(file, {"conv": ["conv/kernel:0", "conv/bias:0"]})
        if backend is None:
            del file.attrs["backend"]
    if backend is None:
        with pytest.warns(WeightsWarning, match="Theano is assumed, as its name has th_kernels"):
            arrays = read(path)
        np.testing.assert_array_equal(arrays["conv/kernel"], KERNEL[::-1, ::-1])
    else:
        np.testing.assert_array_equal(read(path)["conv/kernel"], KERNEL)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_keras_archive_is_read(tmp_path: Path, compression: int) -> None:
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        file["layers/conv2d/vars/0"] = KERNEL
    with zipfile.ZipFile(tmp_path / "model.keras", "w", compression) as archive:
        archive.writestr("metadata.json", "{}")
        archive.write(tmp_path / "model.weights.h5", "model.weights.h5")
    np.testing.assert_array_equal(read(tmp_path / "model.keras")["layers/conv2d/vars/0"], KERNEL)
