"""Other engines than PyTorch: ONNX Runtime and OpenVINO, on what PyTorch exports as ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from benchmarks.agreement import Result, Tolerance, agree
from benchmarks.rows import one_line
from dlmie.compilation import get_threads

Run = Callable[[], Result]
#: Starts the network of an ONNX file's bytes on images.
Start = Callable[[bytes, np.ndarray], Run]


@dataclass(frozen=True)
class Engines:
    """The engines that run here, and why the others do not.

    Parameters
    ----------
    runs : dict
        By the column of a row's entry: a call that returns the outputs.
    missing : dict
        By an engine's name: the reason, in one line.
    """

    runs: dict[str, Run] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def engines(module: nn.Module, x: np.ndarray, expected: Result, tolerance: Tolerance) -> Engines:
    """Every engine that computes ``module(x)`` in float32, with as many threads as dlmie has.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode, with one output.
    x : (batch, channels, height, width) array
    expected : list with one array
        The output of PyTorch; an engine with another one is among the missing.
    tolerance : Tolerance
        How closely outputs must agree with it.
    """
    found = Engines()
    try:
        network = export(module, x)
    except Exception as error:
        why = f"PyTorch cannot export the network: {reason(error)}"
        found.missing.update(dict.fromkeys(NAMES.values(), why))
        return found
    for column, start in ENGINES.items():
        name = NAMES[column]
        try:
            run = start(network, x)
            agree(run(), expected, tolerance, f"{name} and PyTorch")
        except Exception as error:
            found.missing[name] = reason(error)
        else:
            found.runs[column] = run
    return found


def export(module: nn.Module, x: np.ndarray) -> bytes:
    """The module as an ONNX file, for images of the shape of x."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The older exporter needs only the package onnx, and warns that there is a newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            *(module, (torch.from_numpy(x),), file),
            dynamo=False,
            input_names=["images"],
            output_names=["output"],
        )
    return file.getvalue()


def onnx_runtime(network: bytes, x: np.ndarray) -> Run:
    """The network in ONNX Runtime, on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_threads()
    # Its threads wait busily for the next operation, but not after the last one: whatever runs
    # next in the round has the processors to itself.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"images": x})


def openvino(network: bytes, x: np.ndarray) -> Run:
    """The network in OpenVINO, on the processor."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": get_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # where the processor has bfloat16, it would use that
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    model = core.read_model(io.BytesIO(network))
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def run() -> Result:
        request.infer({0: x})
        return [request.get_output_tensor(0).data]

    return run


ENGINES: Mapping[str, Start] = {"onnxruntime_s": onnx_runtime, "openvino_s": openvino}
NAMES = {"onnxruntime_s": "ONNX Runtime", "openvino_s": "OpenVINO"}


def reason(error: Exception) -> str:
    """Why an engine does not run, in one line."""
    if isinstance(error, ModuleNotFoundError) and error.name in ("onnx", "onnxruntime", "openvino"):
        return f"the package is not installed: pip install {error.name}"
    return one_line(error)
