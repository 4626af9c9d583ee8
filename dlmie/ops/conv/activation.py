"""ReLU, ReLU6 and leaky ReLU, whose gradients need only their output; see ``activation.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.runtime.inplace import Overwriting
from dlmie.ops.runtime.kernel_op import KernelOp, bits

Kind = Literal["relu", "relu6"]
CODES = {None: 0, "relu": 1, "relu6": 2}  # the enum of conv.h


def apply(x: np.ndarray, kind: Kind | None) -> np.ndarray:
    """The activation in NumPy; NaN stays NaN."""
    if kind is None:
        return x
    return np.maximum(x, 0) if kind == "relu" else np.clip(x, 0, 6)


def passes(y: Any, kind: Kind | None) -> Any:
    """Where the activation with output ``y``, of NumPy or JAX, has a gradient."""
    return (y > 0) & (y < 6) if kind == "relu6" else y > 0


class Activation(Overwriting):
    """``max(x, 0)``, or ``min(max(x, 0), 6)``; joined to what is before it by rewrites.

    With a ``slope`` above 0, negative numbers are multiplied by it instead: leaky ReLU.
    """

    kernel = "activation"
    __props__ = ("kind", "slope", "overwrites")
    overwritable = ({0: 0},)

    def __init__(self, kind: Kind, slope: float = 0.0, overwrites: int | None = None) -> None:
        self.kind, self.slope = kind, slope
        super().__init__(overwrites)

    def parameters(self) -> Sequence[int]:
        return CODES[self.kind], *bits(self.slope)

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        (x,) = inputs
        y = apply(x, self.kind)
        outputs[0][0] = np.where(x < 0, x.dtype.type(self.slope) * x, y) if self.slope else y

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [ActivationGradient(self.kind, self.slope)(outputs[0], cotangents[0])]


class ActivationGradient(Overwriting):
    """``g`` where the activation's output ``y`` is neither 0 nor at its ceiling, else 0.

    With a ``slope``, ``slope * g`` where ``y`` is not positive. With ``sums`` a second output holds
    the sums over everything but axis 1: the gradient of the bias of a convolution, in the same pass
    over memory.
    """

    kernel = "activation_gradient"
    __props__ = ("kind", "slope", "sums", "overwrites")
    overwritable = ({0: 1},)

    def __init__(
        self,
        kind: Kind,
        slope: float = 0.0,
        sums: bool = False,
        overwrites: int | None = None,
    ) -> None:
        self.kind, self.slope, self.sums = kind, slope, sums
        super().__init__(overwrites)

    def parameters(self) -> Sequence[int]:
        return CODES[self.kind], self.sums, *bits(self.slope)

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        y, g = inputs
        sums = TensorType(y.type.dtype, shape=(y.type.shape[1],)) if self.sums else None
        return [g.type, sums] if sums else [g.type]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [shapes[0], (shapes[0][1],)] if self.sums else [shapes[0]]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        y, g = inputs
        masked = np.where(passes(y, self.kind), g, y.dtype.type(0))
        if self.slope:
            masked = np.where(y > 0, masked, y.dtype.type(self.slope) * g)
        outputs[0][0] = masked
        if self.sums:
            outputs[1][0] = channel_sums(masked)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        y, g = inputs
        c = [x for x in cotangents if not isinstance(x.type, DisconnectedType)]
        if self.sums and not isinstance(cotangents[1].type, DisconnectedType):
            c[-1] = spread(cotangents[1], like=g)
        total = c[0] if len(c) == 1 else pt.add(*c)
        return [pt.zeros_like(y), ActivationGradient(self.kind, self.slope)(y, total)]


class ChannelSum(KernelOp):
    """x (batch, channels, ...) → sums over all other axes (channels,): the gradient of a bias."""

    kernel = "channel_sum"

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        return [TensorType(inputs[0].type.dtype, shape=(inputs[0].type.shape[1],))]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [(shapes[0][1],)]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        outputs[0][0] = channel_sums(inputs[0])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        return [spread(cotangents[0], like=inputs[0])]


def channel_sums(x: np.ndarray) -> np.ndarray:
    """The NumPy definition of :class:`ChannelSum`."""
    others = (0, *range(2, x.ndim))
    return np.asarray(x.sum(axis=others, dtype="float64"), dtype=x.dtype)


def spread(channels: Variable, *, like: Variable) -> Variable:
    """(channels,) repeated to the shape of ``like`` (batch, channels, ...)."""
    axes = ["x", 0, *["x"] * (like.type.ndim - 2)]
    return pt.zeros_like(like) + channels.dimshuffle(axes)


def relu(x: Any) -> Variable:
    """``max(x, 0)`` elementwise, of a float tensor of any shape; the gradient at 0 is 0."""
    return Activation("relu")(pt.as_tensor_variable(x))


def relu6(x: Any) -> Variable:
    """``min(max(x, 0), 6)`` elementwise (Howard et al., MobileNets); no gradient at 0 and 6."""
    return Activation("relu6")(pt.as_tensor_variable(x))


def leaky_relu(x: Any, slope: float) -> Variable:
    """``x`` where it is positive, else ``slope · x``; the gradient at 0 is the slope.

    Raises
    ------
    ValueError
        A slope below 0: the gradient could not be told from the output.
    """
    if not slope >= 0:
        raise ValueError(f"leaky ReLU: the slope must be at least 0, not {slope}")
    return Activation("relu", float(slope))(pt.as_tensor_variable(x))
