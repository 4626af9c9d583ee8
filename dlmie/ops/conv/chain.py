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

_BLOCK = 16  # channels whose bytes lie together: KEPT of chain_tasks.h


class Step(NamedTuple):
    """``convolution(source, w, b) + residual``.

    Parameters
    ----------
    convolution : Convolution
        1×1 with stride 1, of one filter per channel, or any one of the input of the chain.
    source, residual : int
        0 is the input of the chain, i + 1 the output of step i; a residual of -1 adds nothing.
        Only 1×1 steps may have one.
    """

    convolution: Convolution
    source: int
    residual: int = -1

    def notes(self) -> Kind | None:
        """Its activation, if its output tells where that had a gradient."""
        return self.convolution.activation if self.residual < 0 else None

    def inputs(self) -> int:
        """Weights, and a bias if there is one."""
        return 1 + self.convolution.biased


class ConvolutionChain(KernelOp):
    """(x, w of the first step, its b, w of the second, …) → the outputs of some steps.

    The inverted residual blocks of mobile networks (Sandler et al. 2018, MobileNetV2) in one
    operation: nothing between its steps is stored in the layout of images.  Only a rewrite makes
    it, once all gradients have been taken (:mod:`dlmie.ops.rewrites`).

    With ``keeps``, one more output for :class:`ConvolutionChainGradient`: where the activations of
    all steps that add no residual had a gradient (:func:`passed_bytes`).
    """

    kernel = "conv2d_chain"
    __props__ = ("steps", "outputs", "keeps")

    def __init__(
        self, steps: tuple[Step, ...], outputs: tuple[int, ...], keeps: bool = False
    ) -> None:
        super().__init__()
        self.steps, self.outputs, self.keeps = steps, outputs, keeps

    def __str__(self) -> str:
        return f"ConvolutionChain{{{len(self.steps)} steps}}"

    def parameters(self) -> Sequence[int]:
        numbers = [len(self.steps), len(self.outputs), self.keeps, *self.outputs]
        for step in self.steps:
            numbers += [step.source, step.residual, *step.convolution.parameters()]
        return numbers

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[0].type]
        for step, weights in self._with_weights(inputs):
            (found,) = step.convolution.output_types(types[step.source](), *weights)
            types.append(found)
        kept = [TensorType("int8", shape=(types[0].shape[0], None))] if self.keeps else []
        return [*(types[1 + i] for i in self.outputs), *kept]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        filters = [w[0] for _, w in self._with_weights(shapes)]
        known = _slot_shapes(self.steps, shapes[0], filters)
        size = sum(
            -(-shape[1] // _BLOCK) * _BLOCK * shape[2] * shape[3]
            for step, shape in zip(self.steps, known[1:], strict=True)
            if step.notes()
        )
        kept = [(known[0][0], size)] if self.keeps else []
        return [*(known[1 + i] for i in self.outputs), *kept]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        slots = [inputs[0]]
        kept = [np.empty((len(inputs[0]), 0), "int8")]
        for step, weights in self._with_weights(inputs):
            cell: list[Any] = [None]
            step.convolution.perform(node, [slots[step.source], *weights], [cell])
            if step.notes():
                kept.append(passed_bytes(passes(cell[0], step.notes())))
            slots.append(cell[0] if step.residual < 0 else slots[step.residual] + cell[0])
        for cell, i in zip(outputs, self.outputs, strict=False):
            cell[0] = slots[1 + i]
        if self.keeps:
            outputs[-1][0] = np.concatenate(kept, axis=1)

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        raise NotImplementedError(f"{self} has no gradient: take it before compiling")

    def _with_weights(self, inputs: Sequence[Any]) -> list[tuple[Step, Sequence[Any]]]:
        """Every step with its weights among the inputs of the chain."""
        found, next_ = [], 1
        for step in self.steps:
            found.append((step, inputs[next_ : next_ + step.inputs()]))
            next_ += step.inputs()
        return found


def passed_bytes(passed: Any, xp: Any = np) -> Any:
    """Where numbers passed, (batch, channels, rows, columns) → (batch, size) of int8, -1 or 0.

    Sixteen channels of a pixel lie together, zeros where there are no more of them; ``xp`` is
    NumPy or what has its functions.
    """
    batch, channels, *sizes = passed.shape
    blocks, pixels = -(-channels // _BLOCK), prod(sizes)
    there = -passed.reshape((batch, channels, pixels)).astype("int8")
    padded = xp.pad(there, ((0, 0), (0, blocks * _BLOCK - channels), (0, 0)))
    in_blocks = padded.reshape((batch, blocks, _BLOCK, pixels)).swapaxes(2, 3)
    return in_blocks.reshape((batch, blocks * _BLOCK * pixels))


def from_passed_bytes(passed: Any, shape: Sequence[int]) -> tuple[Any, Any]:
    """The first of such bytes as where numbers of a shape passed, and the other bytes."""
    batch, channels, *sizes = shape
    blocks, pixels = -(-channels // _BLOCK), prod(sizes)
    size = blocks * _BLOCK * pixels
    in_blocks = passed[:, :size].reshape((batch, blocks, pixels, _BLOCK)).swapaxes(2, 3)
    there = in_blocks.reshape((batch, blocks * _BLOCK, pixels))[:, :channels].reshape(shape)
    return there != 0, passed[:, size:]


class ConvolutionChainGradient(KernelOp):
    """(x, what activations let through, g, w of the first step, w of the second, …) → a gradient.

    Of what step ``first`` reads, before the activation of the step that computes it, from the
    gradient g of the last step's output; x, the input of the chain, gives only its shape.  From
    ``first`` on, every step reads what the one before computed.

    Parameters
    ----------
    steps : tuple of Step
        Those of the chain, whose second output are the bytes (:func:`passed_bytes`).
    first : int
        The gradient of the steps before is not this operation's.
    """

    kernel = "conv2d_chain_gradient"
    __props__ = ("steps", "first")

    def __init__(self, steps: tuple[Step, ...], first: int) -> None:
        super().__init__()
        self.steps, self.first = steps, first

    def __str__(self) -> str:
        return f"ConvolutionChainGradient{{{len(self.steps) - self.first} steps}}"

    def parameters(self) -> Sequence[int]:
        numbers = [len(self.steps), self.first]
        for step in self.steps:
            *convolution, _ = step.convolution.parameters()  # the last says whether it has a bias
            numbers += [step.source, step.residual, *convolution, 0]
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
        x, kept, g, *weights = inputs
        shapes = _slot_shapes(self.steps, x.shape, [w.shape for w in weights])
        passed: list[Any] = [None]  # of every slot, as slots are counted in Step
        for step, shape in zip(self.steps, shapes[1:], strict=True):
            there = None
            if step.notes():
                there, kept = from_passed_bytes(kept, shape)
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
