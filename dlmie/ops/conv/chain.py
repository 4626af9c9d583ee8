"""A chain of 1×1 and depthwise convolutions as one operation; kernel in ``conv_chain.c``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.conv.conv import Convolution
from dlmie.ops.runtime.kernel_op import KernelOp


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

    def inputs(self) -> int:
        """Weights, and a bias if there is one."""
        return 1 + self.convolution.biased


class ConvolutionChain(KernelOp):
    """(x, w of the first step, its b, w of the second, …) → the outputs of some steps.

    The inverted residual blocks of mobile networks (Sandler et al. 2018, MobileNetV2) in one
    operation: nothing between its steps is stored in the layout of images.  Only a rewrite makes
    it, once all gradients have been taken (:mod:`dlmie.ops.rewrites`).
    """

    kernel = "conv2d_chain"
    __props__ = ("steps", "outputs")

    def __init__(self, steps: tuple[Step, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.steps, self.outputs = steps, outputs

    def __str__(self) -> str:
        return f"ConvolutionChain{{{len(self.steps)} steps}}"

    def parameters(self) -> Sequence[int]:
        numbers = [len(self.steps), len(self.outputs), *self.outputs]
        for step in self.steps:
            numbers += [step.source, step.residual, *step.convolution.parameters()]
        return numbers

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[0].type]
        for step, weights in self._with_weights(inputs):
            (found,) = step.convolution.output_types(types[step.source](), *weights)
            types.append(found)
        return [types[1 + i] for i in self.outputs]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        known = [shapes[0]]
        for step, weights in self._with_weights(shapes):
            (found,) = step.convolution.output_shapes(node, [known[step.source], *weights])
            known.append(found)
        return [known[1 + i] for i in self.outputs]

    def perform(self, node: Apply, inputs: Sequence[np.ndarray], outputs: Any) -> None:
        slots = [inputs[0]]
        for step, weights in self._with_weights(inputs):
            cell: list[Any] = [None]
            step.convolution.perform(node, [slots[step.source], *weights], [cell])
            slots.append(cell[0] if step.residual < 0 else slots[step.residual] + cell[0])
        for cell, i in zip(outputs, self.outputs, strict=True):
            cell[0] = slots[1 + i]

    def pullback(self, inputs: Any, outputs: Any, cotangents: Any) -> list[Variable]:
        raise NotImplementedError(f"{self} has no gradient: take it before compiling")

    def _with_weights(self, inputs: Sequence[Any]) -> list[tuple[Step, Sequence[Any]]]:
        """Every step with its weights among the inputs of the chain."""
        found, next_ = [], 1
        for step in self.steps:
            found.append((step, inputs[next_ : next_ + step.inputs()]))
            next_ += step.inputs()
        return found
