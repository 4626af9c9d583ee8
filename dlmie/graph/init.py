"""First values of parameters: plain callables ``(rng, shape, dtype) -> array``."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dlmie.errors import DlmieError
from dlmie.text import suggest

Initializer: TypeAlias = Callable[
    [np.random.Generator, Sequence[int], npt.DTypeLike], npt.NDArray[Any]
]

# Random numbers are drawn in double precision, so that float32 and float64 models of one seed agree
# to rounding; a million at a time, so that a big matrix does not need three times its memory.
_CHUNK = 1 << 20


_drawing: ContextVar[bool] = ContextVar("drawing", default=True)


@contextlib.contextmanager
def nothing_drawn() -> Iterator[None]:
    """Within, what would be random is 0: for a model whose values a file gives at once.

    To draw a captioner's matrices takes longer than to read them, orthogonal ones above all.
    """
    token = _drawing.set(False)
    try:
        yield
    finally:
        _drawing.reset(token)


class InitError(DlmieError, ValueError):
    """An initializer is unknown, or does not fit the parameter it is given for."""


def constant(value: float = 0.0) -> Initializer:
    """Every element is ``value``."""

    def fill(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        return np.full(tuple(shape), value, dtype)

    return fill


def zeros() -> Initializer:
    """Every element is 0."""
    return constant(0.0)


def ones() -> Initializer:
    """Every element is 1."""
    return constant(1.0)


def normal(std: float = 0.01, mean: float = 0.0) -> Initializer:
    """Gaussian with standard deviation ``std``."""
    return _scaled(lambda shape: std, "normal", mean)


def uniform(limit: float = 0.05) -> Initializer:
    """Uniform between ``-limit`` and ``limit``."""
    return _scaled(lambda shape: limit, "uniform")


def glorot_normal(gain: float = 1.0) -> Initializer:
    """Gaussian, variance ``2 gain² / (fan_in + fan_out)`` (Glorot & Bengio 2010, eq. 12)."""
    return _scaled(lambda shape: gain * math.sqrt(2 / sum(fans(shape))), "normal")


def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Uniform, limit ``gain sqrt(6 / (fan_in + fan_out))`` (Glorot & Bengio 2010, eq. 16)."""
    return _scaled(lambda shape: gain * math.sqrt(6 / sum(fans(shape))), "uniform")


def he_normal(gain: float = math.sqrt(2)) -> Initializer:
    """Gaussian, variance ``gain² / fan_in``; the default suits ReLU (He et al. 2015, eq. 10)."""
    return fan_in_normal(gain)


def he_uniform(gain: float = math.sqrt(2)) -> Initializer:
    """Uniform of the same variance as :func:`he_normal`: limit ``gain sqrt(3 / fan_in)``."""
    return _scaled(lambda shape: gain * math.sqrt(3 / fans(shape)[0]), "uniform")


def fan_in_normal(scale: float = 1.0) -> Initializer:
    """Gaussian with standard deviation ``scale / sqrt(fan_in)`` (LeCun et al. 1998)."""
    return _scaled(lambda shape: scale / math.sqrt(fans(shape)[0]), "normal")


def orthogonal(gain: float = 1.0) -> Initializer:
    """Orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al. 2014).

    Axes after the first count as one: filters (filters, channels, height, width) become a matrix of
    ``filters`` rows.
    """

    def draw(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        if len(shape) < 2:
            raise InitError(f"orthogonal needs a matrix, not shape {tuple(shape)}; use normal")
        if not _drawing.get():
            return np.zeros(tuple(shape), dtype)
        rows, columns = shape[0], math.prod(shape[1:])
        tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q *= np.sign(np.diag(r))  # without this, Q is not uniform over the orthogonal matrices
        return (gain * (q if rows >= columns else q.T)).reshape(tuple(shape)).astype(dtype)

    return draw


def per_gate(initializer: Any, gates: int = 4) -> Initializer:
    """Draw each gate's block of columns by itself: a recurrent matrix (hidden, 4 hidden).

    Fans and orthogonality then are those of the (hidden, hidden) matrix that each gate sees.
    """
    draw_one = resolve(initializer)

    def draw(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        block = (*shape[:-1], _gate_size(shape, gates))
        return np.concatenate([draw_one(rng, block, dtype) for _ in range(gates)], axis=-1)

    return draw


def lstm_bias(forget: float = 1.0) -> Initializer:
    """Bias of an LSTM (gates i, f, o, g): ``forget`` for the forget gate, 0 for the others.

    An open forget gate lets gradients through from the start (Gers et al. 2000; Jozefowicz et al.
    2015).
    """

    def fill(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        bias, size = np.zeros(tuple(shape), dtype), _gate_size(shape, 4)
        bias[..., size : 2 * size] = forget
        return bias

    return fill


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Number of inputs and outputs that one weight of each output, or input, is among.

    A matrix is (inputs, outputs), a vector of n weights maps n inputs to one output, and filters
    are (filters, channels, height, width).
    """
    if math.prod(shape) == 0:
        raise InitError(f"a parameter of shape {tuple(shape)} has no elements: check its sizes")
    if len(shape) < 2:
        return (shape[0] if shape else 1), 1
    if len(shape) == 2:
        return shape[0], shape[1]
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def resolve(initializer: Any) -> Initializer:
    """The initializer that a name, a number, an array or a callable stands for.

    Parameters
    ----------
    initializer : str, float, array or callable
        A name of this module (``"he_normal"``), the value of every element, all the values
        themselves, or a callable ``(rng, shape, dtype) -> array``.

    Raises
    ------
    InitError
        Unknown name (with the nearest known one), or, when called, a shape that does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from dlmie.graph import init
    >>> init.resolve("ones")(np.random.default_rng(0), (2,), "float32")
    array([1., 1.], dtype=float32)
    """
    if isinstance(initializer, str):
        if initializer not in _BY_NAME:
            raise InitError(f"no initializer {initializer!r}{suggest(initializer, _BY_NAME)}")
        return _BY_NAME[initializer]()
    if callable(initializer):
        if initializer in _BY_NAME.values():
            return initializer()  # init.zeros where init.zeros() is meant
        return _checked(initializer)
    values = np.asarray(initializer)
    if values.dtype.kind not in "fiub":
        raise InitError(
            f"cannot initialize from {initializer!r}: give a name ({', '.join(_BY_NAME)}), "
            "a number, an array or a callable (rng, shape, dtype) -> array"
        )
    return constant(values.item()) if values.ndim == 0 else _given(values)


def _given(values: npt.NDArray[Any]) -> Initializer:
    """A copy of an array, whose shape must be the parameter's."""

    def copy(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        return np.array(values, dtype)

    return _checked(copy)


def _checked(initializer: Callable[..., Any]) -> Initializer:
    """The same, refusing a result that is not of the wanted shape."""

    def draw(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        values = np.asarray(initializer(rng, tuple(shape), dtype), dtype)
        if values.shape != tuple(shape):
            raise InitError(f"the first value has shape {values.shape}, needed is {tuple(shape)}")
        return values

    return draw


def _scaled(
    scale: Callable[[Sequence[int]], float], distribution: str, mean: float = 0.0
) -> Initializer:
    """``mean + scale(shape) * x``, x standard normal or uniform on [-1, 1)."""

    def draw(
        rng: np.random.Generator, shape: Sequence[int], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        factor = scale(shape)
        if not _drawing.get():
            return np.zeros(tuple(shape), dtype)
        values = np.empty(math.prod(shape), dtype)
        for start in range(0, values.size, _CHUNK):
            part = values[start : start + _CHUNK]
            if distribution == "normal":
                part[:] = mean + factor * rng.standard_normal(part.size)
            else:
                part[:] = mean + factor * (2 * rng.random(part.size) - 1)
        return values.reshape(tuple(shape))

    return draw


def _gate_size(shape: Sequence[int], gates: int) -> int:
    if not shape or shape[-1] % gates:
        raise InitError(
            f"the last axis of shape {tuple(shape)} must be a multiple of {gates} gates"
        )
    return shape[-1] // gates


_BY_NAME: dict[str, Callable[[], Initializer]] = {
    "constant": constant,
    "zeros": zeros,
    "ones": ones,
    "normal": normal,
    "uniform": uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "fan_in_normal": fan_in_normal,
    "orthogonal": orthogonal,
    "lstm_bias": lstm_bias,
}
