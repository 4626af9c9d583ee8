"""Run every kernel of the C library through ctypes on odd shapes, beside its NumPy definition.

    python tests/support/sanitize_kernels.py

builds the library with the address and undefined-behavior sanitizers and runs all cases under
them; the first finding ends the run.  Nothing else is compiled: PyTensor walks the graphs in
Python, node by node, and each node with a kernel calls it on exactly sized blocks of memory.
``test_ctypes.py`` runs the same cases on the library as users have it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Apply
from pytensor.link.basic import PerformLinker, WrapLinker

from dlmie.ops.attention.attention_lstm import SCORES, attention_lstm_sequence
from dlmie.ops.runtime import building, library
from dlmie.ops.runtime.inplace import Overwriting
from dlmie.ops.runtime.invocation import MAX_INPUTS, MAX_OUTPUTS
from dlmie.ops.runtime.kernel_op import KernelOp, precision

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_random = np.random.default_rng(5)


class Case(NamedTuple):
    """A function of symbolic tensors, and the numbers to run it on."""

    name: str
    build: Callable[..., Any]
    arrays: list[np.ndarray]
    gradients: bool = True


def normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape)


def convolutions() -> Iterator[Case]:
    from dlmie.ops.conv.conv import conv2d

    shapes: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        ((2, 3, 7, 5), (4, 3, 3, 3), {"padding": "same", "activation": "relu"}),
        ((2, 16, 14, 13), (17, 16, 3, 3), {"padding": 1, "activation": "relu6"}),
        ((1, 33, 9, 6), (16, 33, 3, 3), {"padding": "same", "exact": True}),
        ((2, 5, 6, 6), (7, 5, 1, 1), {}),
        ((3, 18, 5, 3), (33, 18, 1, 1), {"stride": 2}),
        ((1, 3, 17, 19), (8, 3, 3, 3), {"stride": 2, "padding": "same"}),
        ((2, 6, 9, 8), (6, 1, 5, 5), {"groups": 6, "padding": "same"}),
        ((1, 17, 8, 7), (17, 1, 3, 3), {"groups": 17, "stride": 2, "padding": ((1, 0), (0, 2))}),
        ((2, 6, 8, 9), (4, 3, 3, 2), {"groups": 2, "dilation": (2, 3), "padding": (2, 1)}),
        ((1, 2, 11, 10), (3, 2, 7, 4), {"stride": (3, 2)}),
        ((5, 5, 12, 9), (7, 5, 5, 3), {}),
        ((3, 17, 23, 20), (70, 17, 4, 5), {"stride": 2, "padding": ((2, 0), (1, 3))}),
        ((4, 34, 12, 11), (20, 17, 3, 2), {"groups": 2, "dilation": (2, 1), "padding": 1}),
        ((70, 16, 4, 4), (3, 16, 3, 3), {}),
        ((24, 17, 21, 25), (33, 17, 3, 3), {"padding": 1}),
    ]
    for x, w, options in shapes:
        arrays = [normal(*x), normal(*w), normal(w[0])]
        yield Case(f"conv {x} {w}", lambda *v, o=options: conv2d(*v, **o), arrays)


def transposed_convolutions() -> Iterator[Case]:
    from dlmie.ops.conv.conv import TransposedConvolution

    shapes: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((1, 1, 1, 1), (1, 1, 1, 1), {}),
        ((2, 3, 4, 5), (3, 2, 4, 3), {"stride": (2, 3), "padding": (1, 0, 2, 1)}),
        ((4, 17, 7, 9), (17, 19, 4, 4), {"stride": (2, 2), "padding": (1, 1, 1, 1)}),
        ((2, 17, 9, 6), (17, 16, 3, 3), {"padding": (1, 1, 1, 1)}),
        ((2, 6, 5, 4), (6, 1, 3, 2), {"groups": 6, "dilation": (2, 1)}),
        ((3, 34, 6, 5), (34, 17, 3, 3), {"groups": 2, "exact": True}),
    ]
    for x, w, options in shapes:
        channels = w[1] * options.get("groups", 1)
        arrays = [normal(*x), normal(*w), normal(channels)]
        op = TransposedConvolution(activation="relu", biased=True, **options)
        yield Case(f"transposed conv {x} {w}", op, arrays)
        yield Case(f"transposed conv {x} {w} alone", op.linear(type(op)), arrays[:2])


def pooled_convolutions() -> Iterator[Case]:
    from dlmie.ops.conv.conv import PooledConvolution

    for x, w, exact in (
        ((2, 17, 15, 14), (19, 17, 3, 3), False),
        ((1, 16, 24, 70), (16, 16, 3, 3), False),
        ((2, 3, 5, 6), (4, 3, 3, 3), True),
    ):
        op = PooledConvolution(padding=(1, 1, 1, 1), activation="relu", biased=True, exact=exact)
        arrays = [normal(*x), normal(*w), normal(w[0])]
        yield Case(f"pooled conv {x} {w}", op, arrays, gradients=False)


def chains() -> Iterator[Case]:
    """Inverted residual blocks of odd sizes: first layers, residuals, strides, several outputs."""
    from dlmie.ops.conv.chain import ConvolutionChain, ConvolutionChainGradient, Step
    from dlmie.ops.conv.conv import Convolution

    def pointwise(filters: int, channels: int, **options: Any) -> tuple[Any, tuple[int, ...]]:
        return Convolution(biased=True, **options), (filters, channels, 1, 1)

    def depthwise(channels: int, *size: int, **options: Any) -> tuple[Any, tuple[int, ...]]:
        op = Convolution(groups=channels, padding="same", biased=True, **options)
        return op, (channels, 1, *size)

    first = Convolution((2, 2), "same", activation="relu6", biased=True), (35, 3, 3, 3)
    plain = Convolution(groups=18, padding=(1, 1, 2, 1), activation="relu"), (18, 1, 3, 2)
    unread = Convolution((3, 2), groups=18, padding=(0, 1, 2, 0)), (18, 1, 2, 1)
    strided = {"stride": (2, 2), "activation": "relu6"}
    # Of every step: convolution and weights, source, residual.
    blocks: dict[str, tuple[Any, ...]] = {
        "depthwise, 1x1": ((depthwise(5, 3, 3), 0, -1), (pointwise(7, 5), 1, -1)),
        "packed": (
            (pointwise(48, 5, activation="relu6"), 0, -1, True),
            (depthwise(48, 3, 3, activation="relu6"), 1, -1),
            (pointwise(16, 48), 2, -1, True),
            (pointwise(112, 16), 3, -1, True),
        ),
        "of the input, twice": (
            (pointwise(37, 5, activation="relu6"), 0, -1),
            (depthwise(37, 5, 3, activation="relu6"), 1, -1),
            (pointwise(5, 37), 2, 0),
            (pointwise(18, 5, activation="relu"), 3, -1),
            (plain, 4, -1),
        ),
        "of pictures": (
            (first, 0, -1),
            (depthwise(35, 3, 3, activation="relu6"), 1, -1),
            (pointwise(17, 35), 2, -1),
            (pointwise(67, 17, activation="relu6"), 3, -1),
            (depthwise(67, 3, 5, **strided), 4, -1),
            (pointwise(19, 67), 5, -1),
            (pointwise(40, 19), 6, -1),
            (depthwise(40, 2, 2, dilation=(2, 1)), 7, -1),
            (pointwise(19, 40), 8, 6),
            (pointwise(33, 19), 9, -1),
            (depthwise(33, 3, 3, stride=(3, 3)), 10, -1),
        ),
        "with gaps": (
            (depthwise(5, 1, 3, activation="relu6"), 0, -1),
            (pointwise(18, 5, activation="relu"), 1, -1),
            (unread, 2, -1),
        ),
    }
    # Whose gradients are chains, too, from which step on.
    with_gradients = {"depthwise, 1x1": 0, "of pictures": 1, "with gaps": 0}
    for name, steps in blocks.items():
        op = ConvolutionChain(
            tuple(Step(layer[0], *numbers) for layer, *numbers in steps),
            (len(steps) - 1, len(steps) - 3)[: len(steps) // 4 + 1],
            name in with_gradients,
        )

        def build(
            x: Any,
            *weights: Any,
            op: ConvolutionChain = op,
            first: int = with_gradients.get(name, -1),
        ) -> list[Any]:
            outputs = op(x, *weights, return_list=True)
            if first < 0:
                return outputs
            filters = [w for w in weights if w.ndim == 4]
            backward = ConvolutionChainGradient(op.steps, first)
            return [*outputs, backward(x, outputs[-1], outputs[0], *filters)]

        weights = [
            array
            for (convolution, shape), *_ in steps
            for array in (normal(*shape), normal(shape[0]))[: 1 + convolution.biased]
        ]
        channels = 3 if name == "of pictures" else 5
        for batch, rows, columns in ((1, 9, 14), (6, 21, 3), (2, 1, 1), (1, 60, 31)):
            x = normal(batch, channels, rows, columns)
            yield Case(f"chain {name} {x.shape}", build, [x, *weights], gradients=False)


def pools() -> Iterator[Case]:
    from dlmie.ops.pool.pool import MaxPoolPick, average_pool, global_average_pool, max_pool

    x = normal(2, 3, 8, 7)
    for options in ({"size": 2}, {"size": 3, "stride": 2, "padding": 1, "ceil_mode": True}):
        yield Case(f"max pool {options}", lambda v, o=options: max_pool(v, **o), [x])
        yield Case(f"average pool {options}", lambda v, o=options: average_pool(v, **o), [x])
    for shape in ((1, 3, 2, 2), (2, 1, 7, 34), (1, 2, 6, 71)):
        yield Case(f"max pool {shape}", lambda v: max_pool(v, 2), [normal(*shape)])
    yield Case(
        "average pool with padding counted",
        lambda v: average_pool(v, (3, 2), padding=1, count_include_padding=True),
        [x],
    )
    yield Case("global average pool", global_average_pool, [normal(2, 5, 3, 1)])
    yield Case("max pool pick", MaxPoolPick((3, 2), (2, 2), (1, 0), True), [x, normal(2, 3, 8, 7)])


def sequences() -> Iterator[Case]:
    from dlmie.ops.recurrent.lstm import lstm_sequence
    from dlmie.ops.recurrent.rnn import rnn_sequence

    for time, batch, hidden in ((1, 1, 1), (3, 2, 5), (2, 5, 17)):
        mask = (_random.random((time, batch)) < 0.7).astype(float)
        state, wide = normal(batch, hidden), normal(hidden, 4 * hidden)
        lstm = [normal(time, batch, 4 * hidden), state, state, wide]
        rnn = [normal(time, batch, hidden), state, normal(hidden, hidden)]
        yield Case(f"lstm {hidden}", lstm_sequence, lstm)
        yield Case(f"rnn {hidden}", rnn_sequence, rnn)
        masked = lambda *v, f, m=mask: f(*v, _like(m, v[0]))  # noqa: E731
        yield Case(f"lstm masked {hidden}", partial(masked, f=lstm_sequence), lstm)
        yield Case(f"rnn masked {hidden}", partial(masked, f=rnn_sequence), rnn)


def attention() -> Iterator[Case]:
    for score in SCORES:
        for images, beams, gate, hard in ((1, 1, 0, False), (3, 1, 1, True), (2, 1, 7, False)):
            yield _attention(score, images, beams, gate, hard)
    yield _attention("tanh", 2, 3, 1, False)


def _attention(score: str, images: int, beams: int, gate: int, hard: bool) -> Case:
    time, cells, channels, hidden, inner = 3, 5, 7, 6, 9
    rows = images * beams
    sizes = (time, rows, 4 * hidden), (images, cells, channels), (images, cells, inner)
    states = (rows, hidden), (rows, hidden), (hidden, 4 * hidden), (channels, 4 * hidden)
    shapes: list[tuple[int, ...]] = [*sizes, *states, (hidden, inner), (inner,)]
    if gate:
        shapes += [(hidden, gate), (gate,)]
    mask = (_random.random((time, rows)) < 0.8).astype(float)
    drawn = _random.random((time, rows)), (_random.random((time, rows)) < 0.5).astype(float)

    def build(*v: Any) -> Any:
        attended = attention_lstm_sequence(
            *v[:9],
            gate=(v[9], v[10]) if gate else None,
            mask=_like(mask, v[0]),
            hard=(_like(drawn[0], v[0]), _like(drawn[1], v[0])) if hard else None,
            score=score,
        )
        return [attended.h, attended.alpha, attended.z]

    name = f"attention {score} images {images} beams {beams} gate {gate} hard {hard}"
    # Beams share their image's annotations, which has no gradient.
    return Case(name, build, [normal(*shape) for shape in shapes], gradients=beams == 1)


def losses() -> Iterator[Case]:
    from dlmie.ops.losses.cross_entropy import log_softmax, softmax, softmax_cross_entropy

    for rows, classes in ((1, 1), (3, 17), (5, 33)):
        x = normal(rows, classes)
        targets = _random.integers(0, classes, rows)
        mask = (_random.random(rows) < 0.7).astype(float)
        yield Case("softmax", softmax, [x])
        yield Case("log softmax", log_softmax, [x])
        yield Case("cross-entropy", lambda v, t=targets: softmax_cross_entropy(v, t), [x])
        yield Case(
            "cross-entropy masked, smoothed",
            lambda v, t=targets, m=mask: softmax_cross_entropy(v, t, _like(m, v), 0.1),
            [x],
        )


def others() -> Iterator[Case]:
    from dlmie.ops.conv.activation import ChannelSum, leaky_relu, relu, relu6
    from dlmie.ops.dense.embedding import embedding
    from dlmie.ops.dense.matmul import matmul
    from dlmie.ops.normalization.batch_norm import batch_normalize
    from dlmie.ops.random.noise import dropout, uniform_like

    key = pt.constant(np.int64(12345))
    for shape in ((1, 1), (5, 17), (3, 300), (2, 3, 5, 7)):
        numbers = [normal(*shape), normal(shape[1]), normal(shape[1])]
        yield Case("batch norm", lambda *v: batch_normalize(*v)[0], numbers)
    for shape in ((1, 1, 1, 1), (2, 3, 5, 7), (1, 17, 1, 3)):
        yield Case("relu", relu, [normal(*shape)])
        yield Case("relu6", relu6, [3 * normal(*shape)])
        yield Case("leaky relu", lambda v: leaky_relu(v, 0.1), [normal(*shape)])
        yield Case("channel sums", ChannelSum(), [normal(*shape)])
        yield Case("dropout", lambda v: dropout(v, 0.3, key), [normal(*shape)])
        yield Case("uniform", lambda v: v * uniform_like(v, key), [normal(*shape)])
    ids = _random.integers(0, 5, (3, 4))
    yield Case("embedding", lambda v: embedding(v, ids), [normal(5, 7)])
    for m, n, k in ((1, 1, 1), (17, 5, 33), (3, 64, 2), (11, 37, 19), (131, 67, 130)):
        for a, b in np.ndindex(2, 2):
            arrays = [normal(*((k, m) if a else (m, k))), normal(*((n, k) if b else (k, n)))]
            flags = {"transpose_a": bool(a), "transpose_b": bool(b)}
            yield Case("matmul", partial(matmul, **flags), arrays)


def fused() -> Iterator[Case]:
    """What rewrites and optimizers put into graphs; not all of it can be differentiated."""
    from dlmie.ops.dense import elementwise
    from dlmie.ops.dense.affine import Affine
    from dlmie.ops.dense.sums import SumAxis, SumOfSquares
    from dlmie.ops.normalization.batch_norm import BatchNormalize, BatchNormalizeGradient
    from dlmie.ops.optimizers import updates as optimizers

    for a, b in np.ndindex(2, 2):
        arrays = [normal(*((9, 5) if a else (5, 9))), normal(*((3, 9) if b else (9, 3)))]
        yield Case("affine", Affine(bool(a), bool(b)), [*arrays, normal(3)], gradients=False)
    for shape in ((1, 1), (5, 17), (3, 300), (2, 3, 5, 7)):
        x, g, epsilon = normal(*shape), normal(*shape), np.array(1e-3)
        gamma, shift, mean, variance = (normal(shape[1]) for _ in range(4))
        for kind in ("relu", "relu6"):
            forward = [x, gamma, shift, epsilon]
            yield Case(f"batch norm {kind}", BatchNormalize(kind), forward, gradients=False)
            given = [x, gamma, mean, variance**2, g, epsilon, shift]
            back = BatchNormalizeGradient(kind)
            yield Case(f"batch norm {kind} gradient", back, given, gradients=False)
    for shape in ((1, 1), (3, 17), (65, 33)):
        for axis in (0, 1):
            yield Case(f"sum over axis {axis}", SumAxis(axis), [normal(*shape)])
        yield Case("sum of squares", SumOfSquares(), [normal(*shape)])
        for kind in elementwise.KINDS:
            yield Case(kind, elementwise.Vectorized(kind), [normal(*shape)])
        for kind in optimizers.KINDS:
            for adds in (False, True):
                rule = optimizers.Rule(kind, (0.9, 0.999, 1e-8), adds)
                tensors = [normal(*shape) for _ in range(adds + 1)]  # the parameter, its gradient
                slots = [np.square(normal(*shape)) for _ in range(rule.slots)]
                numbers = [np.array(0.01), np.array(3.0)]
                yield Case(f"{kind} {adds}", rule, [*tensors, *slots, *numbers], gradients=False)


def cases() -> Iterator[Case]:
    """Name, graph function and inputs of every case; numbers in float64."""
    images = (convolutions, transposed_convolutions, pooled_convolutions, chains, pools)
    families = (*images, sequences, attention, losses, others, fused, halves)
    for number, family in enumerate(families):  # a case more changes no other family's numbers
        _random.bit_generator.state = np.random.default_rng([5, number]).bit_generator.state
        yield from family()


def halves() -> Iterator[Case]:
    """Weights in half precision, for few rows and for many."""
    from dlmie.ops.dense.affine import Affine
    from dlmie.ops.dense.matmul import MatMul
    from dlmie.ops.recurrent.lstm import LSTMSequence

    def half(array: np.ndarray) -> Any:
        return pt.constant(array.astype(np.float16))

    for m, k, n in ((1, 1, 1), (5, 19, 37), (12, 8, 16), (13, 33, 65), (40, 5, 130)):
        x, b, w = normal(m, k), normal(n), half(normal(k, n))
        yield Case("matmul in half", lambda x, w=w: MatMul()(x, w), [x], gradients=False)
        yield Case("affine in half", lambda x, b, w=w: Affine()(x, w, b), [x, b], gradients=False)
    for rows, hidden in ((3, 5), (14, 17)):
        w, state = half(normal(hidden, 4 * hidden)), normal(rows, hidden)
        lstm = [normal(2, rows, 4 * hidden), state, state]
        yield Case(
            "lstm in half", lambda *v, w=w: LSTMSequence(False)(*v, w), lstm, gradients=False
        )


def _like(array: np.ndarray, variable: Any) -> Any:
    return pt.constant(array.astype(variable.type.dtype))


class _Tensor(ctypes.Structure):
    """``tensor`` of kernels.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("ndim", ctypes.c_int64),
        ("shape", ctypes.c_int64 * 6),
        ("half", ctypes.c_int64),
    )


def call_kernel(
    lib: ctypes.CDLL, op: KernelOp, dtype: str, inputs: Sequence[np.ndarray], types: Sequence[str]
) -> list[np.ndarray]:
    """The outputs of a kernel, called as PyTensor's generated code calls it."""
    arrays = [np.array(x, order="C") for x in inputs]
    given, made = (_Tensor * MAX_INPUTS)(), (_Tensor * MAX_OUTPUTS)()
    for slot, array in zip(given, arrays, strict=False):
        slot.data, slot.ndim = array.ctypes.data, array.ndim
        slot.half = array.dtype == np.float16
        slot.shape[: array.ndim] = list(array.shape)
    numbers = [int(x) for x in op.parameters()]
    parameters = (ctypes.c_int64 * max(len(numbers), 1))(*numbers)
    error = ctypes.create_string_buffer(256)
    suffix = {"float32": "_f32", "float64": "_f64"}[dtype]
    for name in (f"{op.kernel}_shape{suffix}", f"{op.kernel}{suffix}"):
        if name.endswith(f"{op.kernel}{suffix}"):
            outputs = []
            for i, (slot, kind) in enumerate(zip(made, types, strict=False)):
                shape = tuple(slot.shape[: slot.ndim])
                alias = op.aliases.get(i)
                outputs.append(np.empty(shape, kind) if alias is None else arrays[alias])
                slot.data = outputs[-1].ctypes.data
        if getattr(lib, name)(given, made, parameters, error):
            raise ValueError(f"{name}: {error.value.decode()}")
    return outputs


Visit = Callable[[Apply, list[np.ndarray], list[np.ndarray]], None]
"""What is done with a node: (node, its inputs, what its NumPy definition makes of them)."""


def walk(case: Case, dtype: str, visit: Visit) -> None:
    """Run a case and its gradients in NumPy, and visit every operation with a kernel on the way."""
    _, build, arrays, gradients = case
    inputs = [pt.tensor(dtype=dtype, shape=(None,) * x.ndim) for x in arrays]
    outputs = build(*inputs)
    outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    if gradients:
        cost = sum((y * y).sum() for y in outputs)
        outputs += pytensor.grad(cost, inputs, disconnected_inputs="ignore")

    def run(fgraph: Any, index: int, node: Any, thunk: Any) -> None:
        before = [np.array(cell[0]) for cell in thunk.inputs]
        thunk()
        if isinstance(node.op, KernelOp):
            visit(node, before, [cell[0] for cell in thunk.outputs])

    mode = Mode(WrapLinker([PerformLinker(allow_gc=False)], run), None)
    function = pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")
    function(*(x.astype(dtype) for x in arrays))


def assert_close(found: Sequence[Any], wanted: Sequence[np.ndarray], what: str) -> None:
    """Agreement to rounding, relative to the largest number of each array."""
    for ours, definition in zip(found, wanted, strict=True):
        assert ours.shape == definition.shape, what
        assert ours.dtype == definition.dtype, what
        if definition.size:
            tolerance = 1e-11 if definition.dtype == np.float64 else 3e-5
            worst = np.abs(ours - definition).max()
            limit = tolerance * max(np.abs(definition).max(), 1)
            assert worst <= limit, f"{what} is off by {worst}"


def check(lib: ctypes.CDLL, case: Case, dtype: str, used: set[type]) -> None:
    """Every kernel on the way of a case must agree with its definition."""

    def compare(node: Apply, before: list[np.ndarray], wanted: list[np.ndarray]) -> None:
        used.add(type(node.op))
        kinds = [variable.type.dtype for variable in node.outputs]
        for op in in_place_too(node.op):
            found = call_kernel(lib, op, precision(node), before, kinds)
            assert_close(found, wanted, f"{case.name}: {op}")

    walk(case, dtype, compare)


def in_place_too(op: KernelOp) -> list[KernelOp]:
    """The operation, and its variants that write where an input stands."""
    choices = range(len(op.overwritable)) if isinstance(op, Overwriting) else ()
    return [op, *(op.overwriting(choice) for choice in choices)]


def kernel_ops(base: type = KernelOp) -> set[type]:
    """Every operation that has a kernel."""
    found = {base} if "kernel" in vars(base) else set()
    return found.union(*(kernel_ops(child) for child in base.__subclasses__()))


def check_memory(lib: ctypes.CDLL) -> None:
    """Blocks of ``memory.c`` are taken, returned, reused and freed."""
    lib.dlmie_take.restype = ctypes.c_void_p
    lib.dlmie_take.argtypes = [ctypes.c_size_t, ctypes.POINTER(ctypes.c_size_t)]
    lib.dlmie_give.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size = ctypes.c_size_t()
    blocks = []
    for wanted in (1, 1 << 16, (1 << 16) + 1, 5 << 20):
        block = lib.dlmie_take(wanted, ctypes.byref(size))
        assert block
        assert size.value >= wanted
        ctypes.memset(block, 1, size.value)
        blocks.append((block, size.value))
    for block, taken in blocks:
        lib.dlmie_give(block, taken)
    assert lib.dlmie_take(5 << 20, ctypes.byref(size)) == blocks[-1][0]  # the same one again
    lib.dlmie_give(blocks[-1][0], size.value)


def check_beams(lib: ctypes.CDLL) -> None:
    """The search's kernel, which no graph calls, on exactly sized blocks of memory."""
    for suffix, dtype in (("f32", "float32"), ("f64", "float64")):
        kernel = lib[f"continue_beams_{suffix}"]
        kernel.argtypes = [ctypes.c_int64] * 6 + [ctypes.c_void_p] * 7
        for images, beams, words, beam in ((1, 1, 3, 5), (2, 5, 67, 5), (3, 3, 300, 3)):
            count = min(beam, beams * words)
            logs = _random.normal(size=(images, beams, words)).astype(dtype)
            scores, greedy = normal(images, beams), np.zeros(images, np.int64)
            chosen, totals = np.empty((images, count), np.int64), np.empty((images, count))
            ends, ending = np.empty((images, beams)), np.empty((images, beams), bool)
            arrays = (logs, scores, greedy, chosen, totals, ends, ending)
            expected = (logs + scores[..., None])[..., 1:].reshape(images, -1).max(axis=1)
            pointers = [array.ctypes.data for array in arrays]
            assert not kernel(images, beams, words, beam, count, 0, *pointers)
            np.testing.assert_allclose(totals[:, 0], expected)


def run(lib: ctypes.CDLL, dtypes: Sequence[str] = ("float32", "float64")) -> set[type]:
    """All cases; returns the operations whose kernels ran."""
    used: set[type] = set()
    for dtype in dtypes:
        for case in cases():
            check(lib, case, dtype, used)
    check_memory(lib)
    check_beams(lib)
    return used


def _build_sanitized(folder: str) -> Path:
    """The kernel library as users have it, but with sanitizers and less optimization."""
    blas, flags = library.find_blas(), (*SANITIZERS, "-O1", "-g")
    sanitized = building.Blas(
        blas.name, (*blas.compile_flags, *flags), (*blas.link_flags, *SANITIZERS)
    )
    target = Path(folder, "libdlmie_sanitized.so")
    building.compile_library(library.find_compiler(), sanitized, target)
    return target


def _runtime() -> str:
    """The sanitizers' runtime, which must be in the process before Python itself."""
    compiler = [part for part in library.find_compiler() if part not in ("-x", "c")]
    command = [*compiler, "-print-file-name=libasan.so"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(path).is_file():
        raise SystemExit(f"no address sanitizer: {shlex.join(command)} finds {path}")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", help="run the cases on this library; builds nothing")
    path = parser.parse_args().library
    if path is not None:
        used = run(ctypes.CDLL(path))
        missing = sorted(op.__name__ for op in kernel_ops() - used)
        if missing:
            raise SystemExit(f"no case for {', '.join(missing)}: add one to {__file__}")
        print(f"{len(used)} kernel operations in float32 and float64: clean")
        return
    with tempfile.TemporaryDirectory() as folder:
        print("building the kernels with", *SANITIZERS, flush=True)
        built = _build_sanitized(folder)
        environment = {
            **os.environ,
            "LD_PRELOAD": _runtime(),
            # Python keeps memory for the process's life; a compiler must not start under preload.
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            "PYTENSOR_FLAGS": "cxx=",
        }
        command = [sys.executable, "-W", "ignore", __file__, "--library", str(built)]
        raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
