"""The gradient of a chain of convolutions with respect to its input, found in a graph.

What :func:`pytensor.grad` writes for a chain (:mod:`dlmie.ops.rewrites.chains`) whose weights are
not differentiated: for every step, from the last back, the gradient of its activation, the
transposed convolution, and a sum where what the step reads is also added to a later output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.scalar.basic import Add
from pytensor.tensor.elemwise import Elemwise

from dlmie.ops.conv.activation import ActivationGradient
from dlmie.ops.conv.chain import Step, can_go_back, is_pointwise
from dlmie.ops.conv.conv import ConvolutionInputGradient


@dataclass
class ChainGradient:
    """From the gradient ``g`` of a chain's last output to ``result``, by ``nodes``.

    ``result`` is the gradient of what step ``first`` reads, before the activation of the step that
    computes it.
    """

    g: Variable
    result: Variable
    first: int
    nodes: set[Apply] = field(default_factory=set)


def find_gradient(
    fgraph: FunctionGraph,
    steps: Sequence[Step],
    slots: Sequence[Variable],
    weights: Sequence[Variable],
) -> ChainGradient | None:
    """The gradient of a chain; None where there is none, or something else reads what is inside.

    Parameters
    ----------
    slots : sequence of Variable
        The input of the chain, and the output of every step.
    weights : sequence of Variable
        The filters of every step.
    """
    op, shape = steps[0].convolution, weights[0].type.shape
    first = int(op.groups == 1 and not is_pointwise(op, shape))  # a first layer of pictures
    if not can_go_back(steps, first):
        return None
    walk = _Walk(fgraph, steps, slots, weights)
    g = walk.start()
    if g is None:
        return None
    result = walk.back_to(first, g)
    if result is None or not walk.closed(result):
        return None
    return ChainGradient(g, result, first, walk.nodes)


def is_sum(node: Any) -> bool:
    """Whether a reader of a variable is an operation that adds."""
    return (
        isinstance(node, Apply)
        and isinstance(node.op, Elemwise)
        and isinstance(node.op.scalar_op, Add)
    )


@dataclass
class _Walk:
    """Back through a graph, from the gradient of one step to that of the step before."""

    fgraph: FunctionGraph
    steps: Sequence[Step]
    slots: Sequence[Variable]
    weights: Sequence[Variable]
    nodes: set[Apply] = field(default_factory=set)
    #: Of every slot, the gradients that its own is the sum of.
    terms: dict[int, frozenset[Variable]] = field(default_factory=dict)

    def start(self) -> Variable | None:
        """The gradient of the last output, if one operation alone reads it."""
        last = len(self.steps) - 1
        if self.steps[last].convolution.activation is not None:
            found = {n.inputs[1] for n in self._readers(self.slots[-1], ActivationGradient, 0)}
        else:
            found = {
                n.inputs[2]
                for n in self._readers(self.slots[last], ConvolutionInputGradient, 0)
                if n.inputs[1] is self.weights[last]
            }
        return found.pop() if len(found) == 1 else None

    def back_to(self, first: int, g: Variable) -> Variable | None:
        """The gradient of what step ``first`` reads, before the activation that made it."""
        gradient: Variable | None = g
        self.terms[len(self.steps)] = frozenset([g])
        for i in range(len(self.steps) - 1, first - 1, -1):
            gradient = self._through_activation(i + 1, gradient)
            gradient = self._through_convolution(i, gradient)
            gradient = self._with_residual(i, gradient)
        return self._through_activation(first, gradient)

    def closed(self, result: Variable) -> bool:
        """Whether only these operations read what they compute, but for the result."""
        return all(
            y is result or all(reader in self.nodes for reader, _ in self.fgraph.clients[y])
            for node in self.nodes
            for y in node.outputs
        )

    def _readers(self, x: Variable, kind: type, position: int) -> Iterator[Apply]:
        """Operations of a kind that have x as their input in this position."""
        for node, place in self.fgraph.clients[x]:
            if isinstance(node, Apply) and type(node.op) is kind and place == position:
                yield node

    def _take(self, node: Apply) -> Variable:
        self.nodes.add(node)
        return node.outputs[0]

    def _through_activation(self, slot: int, g: Variable | None) -> Variable | None:
        """The gradient before the activation of the step that computes a slot."""
        kind = self.steps[slot - 1].convolution.activation if slot else None
        if g is None or kind is None:
            return g
        for node in self._readers(self.slots[slot], ActivationGradient, 0):
            if node.op.kind == kind and not node.op.slope and node.inputs[1] is g:
                return self._take(node)
        return None

    def _through_convolution(self, i: int, g: Variable | None) -> Variable | None:
        if g is None:
            return None
        wanted = self.steps[i].convolution.linear(ConvolutionInputGradient)
        for node in self._readers(g, ConvolutionInputGradient, 2):
            like, w, _ = node.inputs
            if node.op == wanted and like is self.slots[i] and w is self.weights[i]:
                return self._take(node)
        return None

    def _with_residual(self, slot: int, g: Variable | None) -> Variable | None:
        """The gradient of a slot, from that of the step that reads it.

        Several sums in a row are one operation in PyTensor's canonical form, each with all terms.
        """
        if g is None:
            return None
        users = [k for k, step in enumerate(self.steps) if step.residual == slot]
        self.terms[slot] = frozenset([g]).union(*(self.terms[k + 1] for k in users))
        if not users:
            return g
        for node, _ in self.fgraph.clients[g]:
            if not is_sum(node) or len(node.inputs) != len(self.terms[slot]):
                continue
            if frozenset(node.inputs) == self.terms[slot]:
                return self._take(node)
        return None
