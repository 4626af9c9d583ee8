"""Max, average and global average pooling; kernels in ``pool.c``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.kernel_op import KernelOp

Pair = int | tuple[int, int]


def max_pool(
    x: Any, size: Pair, stride: Pair | None = None, padding: Pair = 0, ceil_mode: bool = False
) -> Variable:
    """The largest value of each window; where several are equal, the first has the gradient.

    Parameters
    ----------
    x : (batch, channels, rows, columns) float32 or float64
    size, stride : int or (vertical, horizontal)
        Of the window, and between windows (default: the size).
    padding : int or (vertical, horizontal)
        At most half the window; padding never wins.
    ceil_mode : bool
        Keep a last window that hangs over the edge (but starts inside) instead of dropping it.

    Returns
    -------
    (batch, channels, rows', columns')
        ``rows' = floor((rows + 2 padding - size) / stride) + 1``

    Examples
    --------
    >>> import numpy as np, dlmie
    >>> from dlmie.ops.pool.pool import max_pool
    >>> x = np.arange(16, dtype="float32").reshape(1, 1, 4, 4)
    >>> dlmie.function([], max_pool(x, 2))()[0, 0]
    array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    return MaxPool(*_options(size, stride, padding), ceil_mode)(_checked(x))


def average_pool(
    x: Any,
    size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_padding: bool = False,
) -> Variable:
    """The mean of each window.

    Parameters are those of :func:`max_pool`, and

    count_include_padding : bool
        Whether the zeros of the padding count in the mean, or only the pixels that are there.
    """
    options = _options(size, stride, padding)
    return AveragePool(*options, ceil_mode, count_include_padding)(_checked(x))


def global_average_pool(x: Any) -> Variable:
    """x (batch, channels, rows, columns) → the mean of each plane (batch, channels)."""
    whole = AveragePool((0, 0), (1, 1), (0, 0), False, False)
    return whole(_checked(x)).dimshuffle(0, 1)


def _checked(x: Any) -> Variable:
    x = pt.as_tensor_variable(x)
    if x.type.ndim != 4 or x.type.dtype not in ("float32", "float64"):
        raise TypeError(f"pooling needs a float tensor of 4 dimensions, not {x.type}")
    return x


def _options(
    size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    (size_h, size_w), (pad_h, pad_w) = _pair(size), _pair(padding)
    step = (size_h, size_w) if stride is None else _pair(stride)
    if min(size_h, size_w, *step) < 1:
        raise ValueError(f"pooling: size and stride must be positive, not {size!r}, {stride!r}")
    if min(pad_h, pad_w) < 0 or 2 * pad_h > size_h or 2 * pad_w > size_w:
        raise ValueError(
            f"pooling: padding must be from 0 to half the window, not {padding!r} for {size!r}"
        )
    return (size_h, size_w), step, (pad_h, pad_w)


def _pair(value: Pair) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


class _Pooling(KernelOp):
    """The options of pooling, and how shapes follow from them.  Size 0 is the whole plane."""

    __props__: tuple[str, ...] = ("size", "stride", "padding", "ceil_mode", "count_padding")

    def __init__(
        self,
        size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        ceil_mode: bool = False,
        count_padding: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding
        self.ceil_mode, self.count_padding = ceil_mode, count_padding

    def parameters(self) -> Sequence[int]:
        return (*self.size, *self.stride, *self.padding, self.ceil_mode, self.count_padding)

    def like(self, kind: type[_Pooling]) -> _Pooling:
        """Another operation of the family with the same options."""
        return kind(self.size, self.stride, self.padding, self.ceil_mode, self.count_padding)

    def output_size(self, axis: int, size: int) -> int:
        """Windows along axis 0 (rows) or 1 (columns)."""
        window = self.size[axis] or size
        stride, padding = self.stride[axis], self.padding[axis]
        room = size + 2 * padding - window
        if not self.ceil_mode:
            return room // stride + 1
        outputs = -(-room // stride) + 1
        return outputs - ((outputs - 1) * stride >= size + padding)

    def symbolic_size(self, axis: int, size: Any) -> Any:
        """The same of a symbolic size."""
        if self.size[axis] == 0:
            return pt.constant(1, dtype="int64")
        stride, padding = self.stride[axis], self.padding[axis]
        extra = 2 * padding - self.size[axis]
        if not self.ceil_mode:
            return (size + extra) // stride + 1
        outputs = (size + extra + stride - 1) // stride + 1
        return outputs - pt.cast((outputs - 1) * stride >= size + padding, "int64")

    def windows(self, x: np.ndarray) -> Iterator[tuple[int, int, slice, slice, int]]:
        """For each window: its output row and column, what it sees of x, and its divisor."""
        ends = [x.shape[2 + axis] + self.padding[axis] for axis in (0, 1)]
        for row, column in np.ndindex(*(self.output_size(a, x.shape[2 + a]) for a in (0, 1))):
            slices, padded = [], []
            for axis, index in enumerate((row, column)):
                start = index * self.stride[axis] - self.padding[axis]
                stop = start + (self.size[axis] or x.shape[2 + axis])
                slices.append(slice(max(start, 0), min(stop, x.shape[2 + axis])))
                padded.append(min(stop, ends[axis]) - start)
            rows, columns = slices
            seen = (rows.stop - rows.start) * (columns.stop - columns.start)
            yield row, column, rows, columns, padded[0] * padded[1] if self.count_padding else seen


class _Pooled(_Pooling):
    """What has one number for each window."""

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        x = inputs[0].type
        sizes = [
            1 if self.size[axis] == 0 else None if size is None else self.output_size(axis, size)
            for axis, size in enumerate(x.shape[2:])
        ]
        return [TensorType(x.dtype, shape=(*x.shape[:2], *sizes))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        images, channels, rows, columns = shapes[0]
        return [(images, channels, self.symbolic_size(0, rows), self.symbolic_size(1, columns))]

    def empty(self, x: np.ndarray) -> np.ndarray:
        """The output for ``x``, to be filled."""
        sizes = (self.output_size(axis, x.shape[2 + axis]) for axis in (0, 1))
        return np.empty((*x.shape[:2], *sizes), x.dtype)


class MaxPool(_Pooled):
    """x → the maximum of each window."""

    kernel = "max_pool"

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        y = self.empty(x)
        for row, column, rows, columns, _ in self.windows(x):
            y[:, :, row, column] = x[:, :, rows, columns].max(axis=(2, 3))
        outputs[0][0] = y

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [self.like(MaxPoolGradient)(inputs[0], cotangents[0])]


def _winners(part: np.ndarray) -> np.ndarray:
    """One-hot over the last two axes: the first maximum of (batch, channels, rows, columns)."""
    flat = part.reshape(*part.shape[:2], -1)
    return (np.arange(flat.shape[2]) == flat.argmax(axis=2)[..., None]).reshape(part.shape)


class MaxPoolGradient(_Pooling):
    """(x, g) → gradient with respect to x; linear in g."""

    kernel = "max_pool_gradient"

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, g = inputs
        dx = np.zeros_like(x)
        for row, column, rows, columns, _ in self.windows(x):
            winners = _winners(x[:, :, rows, columns])
            dx[:, :, rows, columns] += winners * g[:, :, row, column, None, None]
        outputs[0][0] = dx

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        x, _ = inputs
        return [pt.zeros_like(x), self.like(MaxPoolPick)(x, cotangents[0])]


class MaxPoolPick(_Pooled):
    """(x, c) → c where x has its maximum in each window: the transpose of MaxPoolGradient."""

    kernel = "max_pool_pick"

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, c = inputs
        y = self.empty(x)
        for row, column, rows, columns, _ in self.windows(x):
            winners = _winners(x[:, :, rows, columns])
            y[:, :, row, column] = (winners * c[:, :, rows, columns]).sum(axis=(2, 3))
        outputs[0][0] = y

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        x, _ = inputs
        return [pt.zeros_like(x), self.like(MaxPoolGradient)(x, cotangents[0])]


class AveragePool(_Pooled):
    """x → the mean of each window."""

    kernel = "average_pool"

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        y = self.empty(x)
        for row, column, rows, columns, divisor in self.windows(x):
            y[:, :, row, column] = x[:, :, rows, columns].sum(axis=(2, 3)) / divisor
        outputs[0][0] = y

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [self.like(AveragePoolGradient)(inputs[0], cotangents[0])]


class AveragePoolGradient(_Pooling):
    """(x, g) → gradient with respect to x, of which only the shape matters; linear in g."""

    kernel = "average_pool_gradient"

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[False], [True]]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, g = inputs
        dx = np.zeros_like(x)
        for row, column, rows, columns, divisor in self.windows(x):
            dx[:, :, rows, columns] += g[:, :, row, column, None, None] / x.dtype.type(divisor)
        outputs[0][0] = dx

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [DisconnectedType()(), self.like(AveragePool)(cotangents[0])]
