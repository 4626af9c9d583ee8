"""Other engines beside PyTorch: what cannot run, or computes something else, says why."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.agreement import EVERY_ELEMENT, Result

X = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype("float32")


@pytest.fixture
def engines() -> Any:
    pytest.importorskip("torch", reason="needs PyTorch: pip install dlmie[bench]")
    return importlib.import_module("benchmarks.engines")


@pytest.fixture
def exported(engines: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of engines, which exports without the package onnx."""
    monkeypatch.setattr(engines, "export", lambda module, x: b"a network")
    return engines


def giving(value: float) -> Callable[[bytes, np.ndarray], Callable[[], Result]]:
    """An engine whose output is this number everywhere."""
    return lambda network, x: lambda: [np.full(x.shape, value)]


def test_an_engine_that_is_not_installed_says_so(
    exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    found = exported.engines(None, X, [X], EVERY_ELEMENT)
    assert found.runs == {}
    assert found.missing == {
        "ONNX Runtime": "the package is not installed: pip install onnxruntime",
        "OpenVINO": "the package is not installed: pip install openvino",
    }


def test_a_network_that_cannot_be_exported_says_so(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(module: object, x: np.ndarray) -> bytes:
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(engines, "export", fail)
    found = engines.engines(None, X, [X], EVERY_ELEMENT)
    why = "PyTorch cannot export the network: RuntimeError: no such operator"
    assert found.missing == {"ONNX Runtime": why, "OpenVINO": why}
    assert found.runs == {}


def test_an_engine_that_computes_something_else_is_not_timed(
    exported: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = {"onnxruntime_s": giving(1.0), "openvino_s": giving(1.1)}
    monkeypatch.setattr(exported, "ENGINES", starts)
    found = exported.engines(None, X, [np.ones(X.shape)], EVERY_ELEMENT)
    assert list(found.runs) == ["onnxruntime_s"]
    assert found.missing["OpenVINO"].startswith("OpenVINO and PyTorch differ: 0.00 % of")


@pytest.mark.parametrize("column", ["onnxruntime_s", "openvino_s"])
def test_engines_compute_what_pytorch_computes(engines: Any, column: str) -> None:
    needed = ("onnx", column.removesuffix("_s"))
    for package in needed:
        pytest.importorskip(package, reason="needs the engines: pip install dlmie[bench]")
    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU6()).eval()
    with torch.inference_mode():
        expected = module(torch.from_numpy(X)).numpy()
    found = engines.engines(module, X, [expected], EVERY_ELEMENT)
    assert engines.NAMES[column] not in found.missing
    (output,) = found.runs[column]()
    np.testing.assert_allclose(np.asarray(output), expected, rtol=1e-4, atol=1e-5)
