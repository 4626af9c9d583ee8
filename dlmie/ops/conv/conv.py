"""Two-dimensional convolution (cross-correlation) and its gradients; kernels in ``conv*.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.conv import activation as activations
from dlmie.ops.conv.activation import ActivationGradient, ChannelSum, Kind
from dlmie.ops.runtime.kernel_op import KernelOp

Pair = int | tuple[int, int]
Padding = Literal["valid", "same"] | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: int = 1,
    activation: Kind | None = None,
    exact: bool = False,
) -> Variable:
    """Cross-correlate images with filters, as deep learning's "convolution" does.

    ``y[n, f, r, s] = b[f] + sum_cij w[f, c, i, j] x[n, c, r·stride - top + i·dilation, ...]``,
    where x is zero outside its borders and c runs over the channels of the group of f.

    Parameters
    ----------
    x : (batch, channels, rows, columns) float32 or float64
    w : (filters, channels / groups, filter rows, filter columns)
    b : (filters,), optional
    stride, dilation : int or (vertical, horizontal)
    padding : "valid", "same", int, (vertical, horizontal) or ((top, bottom), (left, right))
        Rows and columns of zeros around each image.  ``"same"`` gives ``ceil(size / stride)``
        outputs along each axis; where the padding is odd, the extra zero goes to the end
        (TensorFlow's rule, which at stride 1 is everybody's).
    groups : int
        Channels and filters divided into this many independent parts; ``groups=channels`` is a
        depthwise convolution.
    activation : "relu" or "relu6", optional
        Applied in the same pass over the output.
    exact : bool
        Forbid the Winograd algorithm, whose float32 results may differ from the exact ones by up
        to 2e-5 of the largest output.  float64 is always exact.

    Returns
    -------
    (batch, filters, rows', columns')
        Differentiable with respect to x, w and b, any number of times.

    Raises
    ------
    TypeError
        Operands that are not all float32 or all float64.
    ValueError
        Impossible options; at run time, shapes that do not fit together.

    Examples
    --------
    >>> import numpy as np, dlmie
    >>> from dlmie.ops.conv.conv import conv2d
    >>> y = conv2d(np.ones((1, 1, 3, 3), "float32"), np.ones((1, 1, 3, 3), "float32"), padding=1)
    >>> dlmie.function([], y)()[0, 0, 1]
    array([6., 9., 6.], dtype=float32)
    """
    operands = _operands("conv2d", x, w, b)
    op = Convolution(
        _pair("stride", stride),
        _explicit(padding),
        _pair("dilation", dilation),
        groups,
        activation,
        b is not None,
        exact,
    )
    return op(*operands)


def conv2d_transpose(
    x: Any, w: Any, b: Any = None, *, stride: Pair = 1, padding: Padding = "valid"
) -> Variable:
    """The transpose of a convolution's map: ``y = Cᵀ x + b`` where ``conv2d(y, w) = C y``.

    ``y[n, c, r·stride - top + i, …] += w[f, c, i, j] x[n, f, r, s]``, as "ConvTranspose2d" or
    "conv2d_transpose" elsewhere.

    Parameters
    ----------
    x : (batch, filters, rows, columns) float32 or float64
    w : (filters, channels, filter rows, filter columns)
    b : (channels,), optional
    stride : int or (vertical, horizontal)
    padding : "valid", int, (vertical, horizontal) or ((top, bottom), (left, right))
        Of the convolution; so much is cut off from each side of y.

    Returns
    -------
    (batch, channels, (rows - 1)·stride + filter rows - padding, …)
        Differentiable with respect to x, w and b, any number of times.

    Raises
    ------
    TypeError
        Operands that are not all float32 or all float64.
    ValueError
        Impossible options; "same" does not say how large y is.

    Examples
    --------
    >>> import numpy as np, dlmie
    >>> x, w = np.ones((1, 1, 2, 2), "float32"), np.ones((1, 1, 2, 2), "float32")
    >>> dlmie.function([], conv2d_transpose(x, w, stride=2))()[0, 0].shape
    (4, 4)
    """
    operands = _operands("conv2d_transpose", x, w, b)
    sides = _explicit(padding)
    if isinstance(sides, str):
        raise ValueError("conv2d_transpose: write the padding as numbers, not 'same'")
    op = TransposedConvolution(_pair("stride", stride), sides, biased=b is not None)
    return op(*operands)


def _operands(name: str, x: Any, w: Any, b: Any) -> list[Variable]:
    """What a convolution works on, all of one precision."""
    operands = [pt.as_tensor_variable(v) for v in ((x, w) if b is None else (x, w, b))]
    dtypes = {v.type.dtype for v in operands}
    if dtypes not in ({"float32"}, {"float64"}):
        raise TypeError(f"{name}: needs all float32 or all float64, not {sorted(dtypes)}")
    return operands


def _pair(name: str, value: Pair) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"conv2d: {name} must be a positive integer or two, not {value!r}")
    return int(pair[0]), int(pair[1])


def _explicit(padding: Padding) -> tuple[int, ...] | Literal["same"]:
    """``"same"``, or (top, bottom, left, right)."""
    if isinstance(padding, str):
        if padding == "same":
            return "same"
        if padding == "valid":
            return (0, 0, 0, 0)
        raise ValueError(f'conv2d: padding must be "valid", "same" or sizes, not {padding!r}')
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    sides: list[int] = []
    for side in (vertical, horizontal):
        sides += (side, side) if isinstance(side, int) else side
    if len(sides) != 4 or min(sides) < 0:
        raise ValueError(f"conv2d: padding sizes must be zero or more, not {padding!r}")
    return tuple(int(side) for side in sides)


class _ConvolutionFamily(KernelOp):
    """What the operations share: the options, and how shapes follow from them."""

    __props__: tuple[str, ...] = (
        "stride",
        "padding",
        "dilation",
        "groups",
        "activation",
        "biased",
        "exact",
    )

    def __init__(
        self,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, ...] | Literal["same"] = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Kind | None = None,
        biased: bool = False,
        exact: bool = False,
    ) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"conv2d: groups must be at least 1, not {groups}")
        if activation not in activations.CODES:
            raise ValueError(f'conv2d: activation must be "relu" or "relu6", not {activation!r}')
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.activation, self.biased, self.exact = activation, biased, exact

    def parameters(self) -> Sequence[int]:
        same = self.padding == "same"
        return (
            *self.stride,
            same,
            *((0, 0, 0, 0) if same else self.padding),
            *self.dilation,
            self.groups,
            activations.CODES[self.activation],
            self.exact,
            self.biased,
        )

    def linear(self, kind: type[_ConvolutionFamily]) -> _ConvolutionFamily:
        """Another operation of the family with the same options, but no bias or activation."""
        return kind(self.stride, self.padding, self.dilation, self.groups, None, False, self.exact)

    def before_activation(self, y: Variable, g: Variable) -> tuple[Variable, Variable | None]:
        """The gradient g of the output y before bias and activation, and that of the bias."""
        if self.activation is not None:
            g, db = ActivationGradient(self.activation, sums=True)(y, g)
            return g, db
        return g, ChannelSum()(g) if self.biased else None

    def output_size(self, axis: int, size: Any, kernel: Any) -> Any:
        """Outputs along axis 0 (rows) or 1 (columns); of integers or symbolic ones."""
        stride = self.stride[axis]
        if self.padding == "same":
            return size if stride == 1 else (size + (stride - 1)) // stride
        padding = self.padding[2 * axis] + self.padding[2 * axis + 1]
        if isinstance(kernel, int):
            extra = padding - (kernel - 1) * self.dilation[axis] - 1
            room = size if extra == 0 else size + extra
        else:
            room = size + padding - (kernel - 1) * self.dilation[axis] - 1
        return room + 1 if stride == 1 else room // stride + 1

    def patches(self, x: np.ndarray, w_shape: tuple[int, ...]) -> tuple[np.ndarray, list[int]]:
        """Views of the padded x (batch, channels, out rows, out columns, filter rows, filter
        columns), and the padding (top, bottom, left, right)."""
        reach = [(k - 1) * d + 1 for k, d in zip(w_shape[2:], self.dilation, strict=True)]
        pads: list[int] = []
        for axis in (0, 1):
            if self.padding == "same":
                outputs = -(-x.shape[2 + axis] // self.stride[axis])
                total = (outputs - 1) * self.stride[axis] + reach[axis] - x.shape[2 + axis]
                total = max(total, 0)
                pads += [total // 2, total - total // 2]
            else:
                pads += self.padding[2 * axis : 2 * axis + 2]
        top, bottom, left, right = pads
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
        (sh, sw), (dh, dw) = self.stride, self.dilation
        return windows[:, :, ::sh, ::sw, ::dh, ::dw], pads

    def group_slices(self, channels: int, filters: int) -> list[tuple[slice, slice]]:
        """The channels and the filters of each group."""
        c, f = channels // self.groups, filters // self.groups
        return [(slice(i * c, (i + 1) * c), slice(i * f, (i + 1) * f)) for i in range(self.groups)]


class Convolution(_ConvolutionFamily):
    """``activation(conv(x, w) + b)``."""

    kernel = "conv2d"

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        x, w = inputs[0].type, inputs[1].type
        if x.ndim != 4 or w.ndim != 4:
            raise TypeError(f"conv2d: input and filters need 4 dimensions, not {x.ndim}, {w.ndim}")
        sizes = [
            self.output_size(axis, x.shape[2 + axis], w.shape[2 + axis])
            if x.shape[2 + axis] is not None
            and (w.shape[2 + axis] is not None or self.padding == "same")
            else None
            for axis in (0, 1)
        ]
        return [TensorType(x.dtype, shape=(x.shape[0], w.shape[0], *sizes))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        x, w = shapes[:2]
        sizes = [self.output_size(axis, x[2 + axis], w[2 + axis]) for axis in (0, 1)]
        return [(x[0], w[0], *sizes)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, w = inputs[:2]
        patches, _ = self.patches(x, w.shape)
        parts = [
            np.tensordot(patches[:, c], w[f], axes=((1, 4, 5), (1, 2, 3)))
            for c, f in self.group_slices(x.shape[1], w.shape[0])
        ]
        y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)  # (batch, filters, rows, columns)
        if self.biased:
            y = y + inputs[2][:, None, None]
        outputs[0][0] = np.ascontiguousarray(activations.apply(y, self.activation))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        x, w = inputs[:2]
        g, db = self.before_activation(outputs[0], cotangents[0])
        gradients = [
            self.linear(ConvolutionInputGradient)(x, w, g),
            self.linear(ConvolutionWeightGradient)(x, w, g),
        ]
        return [*gradients, db] if self.biased else gradients


class PooledConvolution(Convolution):
    """The largest of each 2×2 of ``activation(conv(x, w) + b)``, which itself is never stored.

    Only a rewrite makes it, once all gradients have been taken (:mod:`dlmie.ops.rewrites`).
    """

    kernel = "conv2d_pooled"

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        (whole,) = super().output_types(*inputs)
        sizes = [None if size is None else size // 2 for size in whole.shape[2:]]
        return [TensorType(whole.dtype, shape=(*whole.shape[:2], *sizes))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        (whole,) = super().output_shapes(node, shapes)
        return [(*whole[:2], whole[2] // 2, whole[3] // 2)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        super().perform(node, inputs, outputs)
        y = outputs[0][0]
        rows, columns = (size // 2 for size in y.shape[2:])
        windows = y[:, :, : 2 * rows, : 2 * columns].reshape((*y.shape[:2], rows, 2, columns, 2))
        outputs[0][0] = windows.max(axis=(3, 5))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        raise NotImplementedError(f"{self} has no gradient: take it before compiling")


class TransposedConvolution(_ConvolutionFamily):
    """``activation(Cᵀ x + b)``, where C is the convolution with these options and filters w.

    Computed as the gradient of that convolution with respect to its input.
    """

    kernel = "conv2d_transpose"

    def whole_size(self, axis: int, rows: Any, kernel: Any) -> Any:
        """Outputs along an axis: what the convolution has as inputs there."""
        assert self.padding != "same"
        cut = sum(self.padding[2 * axis : 2 * axis + 2])
        return (rows - 1) * self.stride[axis] + (kernel - 1) * self.dilation[axis] + 1 - cut

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        x, w = inputs[0].type, inputs[1].type
        if x.ndim != 4 or w.ndim != 4:
            raise TypeError(
                f"conv2d_transpose: input and filters need 4 dimensions, not {x.ndim}, {w.ndim}"
            )
        channels = None if w.shape[1] is None else w.shape[1] * self.groups
        sizes = [
            None if None in (x.shape[axis], w.shape[axis]) else self._fixed_size(axis, x, w)
            for axis in (2, 3)
        ]
        return [TensorType(x.dtype, shape=(x.shape[0], channels, *sizes))]

    def _fixed_size(self, axis: int, x: TensorType, w: TensorType) -> int:
        return int(self.whole_size(axis - 2, x.shape[axis], w.shape[axis]))

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        x, w = shapes[:2]
        sizes = [self.whole_size(axis, x[2 + axis], w[2 + axis]) for axis in (0, 1)]
        return [(x[0], w[1] * self.groups, *sizes)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, w = inputs[:2]
        sizes = [self.whole_size(axis, x.shape[2 + axis], w.shape[2 + axis]) for axis in (0, 1)]
        like = np.empty((len(x), w.shape[1] * self.groups, *sizes), x.dtype)
        self.linear(ConvolutionInputGradient).perform(node, [like, w, x], outputs)
        y = outputs[0][0]
        if self.biased:
            y = y + inputs[2][:, None, None]
        outputs[0][0] = activations.apply(y, self.activation)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        x, w = inputs[:2]
        g, db = self.before_activation(outputs[0], cotangents[0])
        gradients = [
            self.linear(Convolution)(g, w),
            self.linear(ConvolutionWeightGradient)(g, w, x),
        ]
        return [*gradients, db] if self.biased else gradients


class ConvolutionInputGradient(_ConvolutionFamily):
    """(x, w, g) → gradient of a convolution with respect to x; x gives only its shape.

    Linear in w and g: its own gradients are convolutions again.
    """

    kernel = "conv2d_input_gradient"

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[False], [True], [True]]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, w, g = inputs
        (sh, sw), (dh, dw) = self.stride, self.dilation
        _, (top, bottom, left, right) = self.patches(x, w.shape)
        rows, columns = x.shape[2:]
        padded = np.zeros((*x.shape[:2], top + rows + bottom, left + columns + right), x.dtype)
        for c, f in self.group_slices(x.shape[1], w.shape[0]):
            for i, j in np.ndindex(*w.shape[2:]):
                part = np.tensordot(g[:, f], w[f, :, i, j], axes=(1, 0))  # (batch, r, s, channels)
                reached = padded[
                    :, c, i * dh : i * dh + sh * g.shape[2], j * dw : j * dw + sw * g.shape[3]
                ]
                reached[:, :, ::sh, ::sw] += np.moveaxis(part, -1, 1)
        outputs[0][0] = padded[:, :, top : top + rows, left : left + columns].copy()

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        _, w, g = inputs
        (c,) = cotangents
        return [
            DisconnectedType()(),
            self.linear(ConvolutionWeightGradient)(c, w, g),
            self.linear(Convolution)(c, w),
        ]


class ConvolutionWeightGradient(_ConvolutionFamily):
    """(x, w, g) → gradient of a convolution with respect to w; w gives only its shape.

    Linear in x and g: its own gradients are convolutions again.
    """

    kernel = "conv2d_weight_gradient"
    outputs_like = (1,)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False], [True]]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        x, w, g = inputs
        patches, _ = self.patches(x, w.shape)
        parts = [
            np.tensordot(g[:, f], patches[:, c], axes=((0, 2, 3), (0, 2, 3)))
            for c, f in self.group_slices(x.shape[1], w.shape[0])
        ]
        outputs[0][0] = np.ascontiguousarray(np.concatenate(parts, axis=0))

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        x, _, g = inputs
        (c,) = cotangents
        return [
            self.linear(ConvolutionInputGradient)(x, c, g),
            DisconnectedType()(),
            self.linear(Convolution)(x, c),
        ]
