"""A chain of 1×1 and depthwise convolutions as one operation, and its gradient with respect to its
input as another; kernels in ``conv_chain.c``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.type import TensorType

from dlmie.ops.conv.activation import Kind, passes
from dlmie.ops.conv.conv import Convolution, ConvolutionInputGradient
from dlmie.ops.runtime.kernel_op import KernelOp

_BLOCK = 16  # channels of a mask, or packed filters, that lie together: BLOCK of chain_tasks.h


class Step(NamedTuple):
    """``convolution(source, w, b) + residual``.

    Parameters
    ----------
    convolution : Convolution
        1×1 with stride 1, of one filter per channel, or any one of the input of the chain.
    source, residual : int
        0 is the input of the chain, i + 1 the output of step i; a residual of -1 adds nothing.
        Only 1×1 steps may have one.
    packed : bool
        Its filters stand in the order of the kernel's inner loop (:func:`pack_filters`).
    """

    convolution: Convolution
    source: int
    residual: int = -1
    packed: bool = False

    def masked_activation(self) -> Kind | None:
        """Its activation, if the chain has a mask of it: if nothing is added to its output."""
        return self.convolution.activation if self.residual < 0 else None

    def inputs(self) -> int:
        """Weights, and a bias if there is one."""
        return 1 + self.convolution.biased


def is_pointwise(op: Convolution, filters: Sequence[int | None]) -> bool:
    """Whether a convolution with filters of this shape is 1×1, of every pixel as it stands."""
    no_padding = op.padding in ("same", (0, 0, 0, 0))
    return op.groups == 1 and filters[2:] == (1, 1) and op.stride == (1, 1) and no_padding


class ConvolutionChain(KernelOp):
    """(x, w of the first step, its b, w of the second, …) → the outputs of some steps.

    The inverted residual blocks of mobile networks (Sandler et al. 2018, MobileNetV2) in one
    operation: nothing between its steps is stored in the layout of images.  Only a rewrite makes
    it, once all gradients have been taken (:mod:`dlmie.ops.rewrites`).

    With ``masks``, one more output for :class:`ConvolutionChainGradient`: where the activations of
    all steps that add no residual have a gradient (:func:`pack_mask`).
    """

    kernel = "conv2d_chain"
    __props__ = ("steps", "outputs", "masks")

    def __init__(
        self, steps: tuple[Step, ...], outputs: tuple[int, ...], masks: bool = False
    ) -> None:
        super().__init__()
        self.steps, self.outputs, self.masks = steps, outputs, masks

    def __str__(self) -> str:
        return f"ConvolutionChain{{{len(self.steps)} steps}}"

    def parameters(self) -> Sequence[int]:
        numbers = [len(self.steps), len(self.outputs), self.masks, *self.outputs]
        for step in self.steps:
            numbers += [step.source, step.residual, step.packed, *step.convolution.parameters()]
        return numbers

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[0].type]
        for step, weights in self.with_weights(inputs):
            (found,) = step.convolution.output_types(types[step.source](), *weights)
            types.append(found)
        masks = [TensorType("int8", shape=(types[0].shape[0], None))] if self.masks else []
        return [*(types[1 + i] for i in self.outputs), *masks]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        filters = [w[0] for _, w in self.with_weights(shapes)]
        known = _slot_shapes(self.steps, shapes[0], filters)
        size = sum(
            -(-shape[1] // _BLOCK) * _BLOCK * shape[2] * shape[3]
            for step, shape in zip(self.steps, known[1:], strict=True)
            if step.masked_activation()
        )
        masks = [(known[0][0], size)] if self.masks else []
        return [*(known[1 + i] for i in self.outputs), *masks]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        def convolve(op: Convolution, *operands: np.ndarray) -> Any:
            cell: list[Any] = [None]
            op.perform(node, operands, [cell])
            return cell[0]

        for cell, y in zip(outputs, self.forward(convolve, np, *inputs), strict=True):
            cell[0] = y

    def forward(self, convolve: Callable[..., Any], xp: Any, *inputs: Any) -> list[Any]:
        """The outputs in NumPy or what has its functions; ``convolve`` (op, x, w and perhaps b)."""
        slots, masks = [inputs[0]], [xp.zeros((len(inputs[0]), 0), "int8")]
        for step, weights in self.with_weights(inputs):
            if step.packed:
                weights = [unpack_filters(weights[0]), *weights[1:]]
            y = convolve(step.convolution, slots[step.source], *weights)
            if step.masked_activation():
                masks.append(pack_mask(passes(y, step.masked_activation()), xp))
            slots.append(y if step.residual < 0 else slots[step.residual] + y)
        outputs = [slots[1 + i] for i in self.outputs]
        return [*outputs, xp.concatenate(masks, axis=1)] if self.masks else outputs

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        raise NotImplementedError(f"{self} has no gradient: take it before compiling")

    def with_weights(self, inputs: Sequence[Any]) -> list[tuple[Step, Sequence[Any]]]:
        """Every step with its weights among the inputs of the chain."""
        found, next_ = [], 1
        for step in self.steps:
            found.append((step, inputs[next_ : next_ + step.inputs()]))
            next_ += step.inputs()
        return found


def pack_filters(w: np.ndarray) -> np.ndarray | None:
    """1×1 filters as a packed step takes them; None unless their number is a multiple of 16.

    The shape stays; sixteen filters lie together, one channel after the other.
    """
    filters, channels = w.shape[:2]
    if filters % _BLOCK:
        return None
    return w.reshape(-1, _BLOCK, channels).swapaxes(1, 2).reshape(w.shape)


def unpack_filters(packed: Any) -> Any:
    """The filters of which these are :func:`pack_filters`."""
    channels = packed.shape[1]
    return packed.reshape((-1, channels, _BLOCK)).swapaxes(1, 2).reshape(packed.shape)


def pack_mask(passed: Any, xp: Any = np) -> Any:
    """Where numbers passed, (batch, channels, rows, columns) → (batch, size) of int8, -1 or 0.

    Sixteen channels of a pixel lie together, the last padded with zeros; ``xp`` is NumPy or what
    has its functions.
    """
    batch, channels, *sizes = passed.shape
    blocks, pixels = -(-channels // _BLOCK), prod(sizes)
    there = -passed.reshape((batch, channels, pixels)).astype("int8")
    padded = xp.pad(there, ((0, 0), (0, blocks * _BLOCK - channels), (0, 0)))
    in_blocks = padded.reshape((batch, blocks, _BLOCK, pixels)).swapaxes(2, 3)
    return in_blocks.reshape((batch, blocks * _BLOCK * pixels))


def unpack_mask(masks: Any, shape: Sequence[int]) -> tuple[Any, Any]:
    """The first of several masks, of numbers of a shape, and the others."""
    batch, channels, *sizes = shape
    blocks, pixels = -(-channels // _BLOCK), prod(sizes)
    size = blocks * _BLOCK * pixels
    in_blocks = masks[:, :size].reshape((batch, blocks, pixels, _BLOCK)).swapaxes(2, 3)
    there = in_blocks.reshape((batch, blocks * _BLOCK, pixels))[:, :channels].reshape(shape)
    return there != 0, masks[:, size:]


def can_go_back(steps: Sequence[Step], first: int) -> bool:
    """Whether the gradient from step ``first`` on is a chain: each step reads the one before.

    An activation is not followed by a residual, and no slot is added more than once, nor if a
    depthwise step reads it. Steps must also be 1×1 or depthwise, which depends on their filters.
    """
    if not 0 <= first < len(steps):
        return False
    for i, step in enumerate(steps[first:], first):
        added = sum(other.residual == i for other in steps)
        if step.source != i or added > (step.convolution.groups == 1):
            return False
        if step.residual >= 0 and step.convolution.activation is not None:
            return False
    return True


class ConvolutionChainGradient(KernelOp):
    """(x, masks of activations, g, w of the first step, w of the second, …) → a gradient.

    Of what step ``first`` reads, before the activation of the step that computes it, from the
    gradient g of the last step's output; x, the input of the chain, gives only its shape.  From
    ``first`` on, every step reads what the one before computed.

    Parameters
    ----------
    steps : tuple of Step
        Those of the chain, whose last output are the masks.
    first : int
        The gradient of the steps before is not this operation's.

    Raises
    ------
    ValueError
        The gradient of these steps is no chain (:func:`can_go_back`), or some are packed.
    """

    kernel = "conv2d_chain_gradient"
    __props__ = ("steps", "first")

    def __init__(self, steps: tuple[Step, ...], first: int) -> None:
        super().__init__()
        if not can_go_back(steps, first):
            raise ValueError(f"the gradient of these steps from {first} on is no chain")
        if any(step.packed for step in steps):
            raise ValueError("the gradient of a chain reads filters as they are, not packed")
        self.steps, self.first = steps, first

    def __str__(self) -> str:
        return f"ConvolutionChainGradient{{{len(self.steps) - self.first} steps}}"

    def parameters(self) -> Sequence[int]:
        numbers = [len(self.steps), self.first]
        for step in self.steps:
            *convolution, _ = step.convolution.parameters()  # the last says whether it has a bias
            numbers += [step.source, step.residual, False, *convolution, 0]
        return numbers

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[0].type]
        for step, w in zip(self.steps, inputs[3:], strict=True):
            types += step.convolution.output_types(types[step.source](), w)
        return [types[self.first]]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [_slot_shapes(self.steps, shapes[0], shapes[3:])[self.first]]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        def transposed(step: Step, like: np.ndarray, w: np.ndarray, g: np.ndarray) -> Any:
            cell: list[Any] = [None]
            op = step.convolution.linear(ConvolutionInputGradient)
            op.perform(node, [like, w, g], [cell])
            return cell[0]

        outputs[0][0] = self.backward(transposed, np, *inputs)

    def backward(self, transposed: Callable[..., Any], xp: Any, *inputs: Any) -> Any:
        """The gradient in NumPy or what has its functions.

        ``transposed`` (step, an array like what it reads, w, g) is the linear gradient of a step.
        """
        x, masks, g, *weights = inputs
        shapes = _slot_shapes(self.steps, x.shape, [w.shape for w in weights])
        passed: list[Any] = [None]  # of every slot, as slots are counted in Step
        for step, shape in zip(self.steps, shapes[1:], strict=True):
            there = None
            if step.masked_activation():
                there, masks = unpack_mask(masks, shape)
            passed.append(there)

        def masked(slot: int, g: Any) -> Any:
            return g if passed[slot] is None else xp.where(passed[slot], g, g.dtype.type(0))

        gradients = {len(self.steps): g}  # of every slot
        for i in range(len(self.steps) - 1, self.first - 1, -1):
            like, before = xp.empty(shapes[i], g.dtype), masked(i + 1, gradients[i + 1])
            added = [gradients[k + 1] for k, s in enumerate(self.steps) if s.residual == i]
            gradients[i] = sum(added, start=transposed(self.steps[i], like, weights[i], before))
        return masked(self.first, gradients[self.first])

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        raise NotImplementedError(f"{self} has no gradient: take it before compiling")


def _slot_shapes(steps: Sequence[Step], x: Any, filters: Sequence[Any]) -> list[Any]:
    """Shapes, of numbers or symbolic, from those of a chain's input and of each step's filters."""
    shapes = [x]
    for step, w in zip(steps, filters, strict=True):
        source, op = shapes[step.source], step.convolution
        sizes = (op.output_size(axis, source[2 + axis], w[2 + axis]) for axis in (0, 1))
        shapes.append((x[0], w[0], *sizes))
    return shapes
