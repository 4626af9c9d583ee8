"""Rewrite of inverted residual blocks into :class:`ConvolutionChain`.

1×1 and depthwise convolutions that hang together, a first layer before them, and the sums of their
outputs become one operation if at most half of what it computes is needed outside.  Where the
gradient with respect to the chain's input is wanted, and none of its weights, that is one operation
as well (:mod:`dlmie.ops.rewrites.chain_gradients`).  Other gradients need all that is computed on
the way, and keep their convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.graph.traversal import ancestors

from dlmie.ops.conv.chain import (
    ConvolutionChain,
    ConvolutionChainGradient,
    Step,
    is_pointwise,
)
from dlmie.ops.conv.conv import Convolution
from dlmie.ops.rewrites.chain_gradients import find_gradient, is_sum
from dlmie.ops.runtime.invocation import MAX_INPUTS, MAX_OUTPUTS

_COLORS, _FIRST_FILTERS = 4, 64


@dataclass
class _Chain:
    """What has been found of one chain: slot 0 is its input, slot i + 1 the output of step i."""

    x: Variable
    steps: list[Step] = field(default_factory=list)
    weights: list[Variable] = field(default_factory=list)
    #: The variable of the graph that a slot holds, and the outputs of convolutions it sums.
    slots: list[Variable] = field(default_factory=list)
    terms: list[frozenset[Variable]] = field(default_factory=list)
    nodes: set[Apply] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.slots.append(self.x)
        self.terms.append(frozenset([self.x]))

    def slot_of(self, variable: Variable) -> int | None:
        return self.slots.index(variable) if variable in self.slots else None

    def add_step(self, node: Apply, source: int) -> None:
        self.steps.append(Step(node.op, source))
        self.weights += node.inputs[1:]
        self.slots.append(node.outputs[0])
        self.terms.append(frozenset(node.outputs))
        self.nodes.add(node)

    def add_sum(self, fgraph: FunctionGraph, node: Apply) -> bool:
        """Let the step that computes the last term add the others, if a slot holds their sum.

        Several sums in a row are one operation in PyTensor's canonical form, each with all terms.
        """
        wanted = frozenset(node.inputs)
        if len(wanted) != len(node.inputs):
            return False
        for slot in range(len(self.slots) - 1, 0, -1):
            y, step = self.slots[slot], self.steps[slot - 1]
            if y not in wanted or step.residual >= 0 or _is_depthwise(step.convolution):
                continue
            others = wanted - {y}
            if others not in self.terms[:slot] or not all(
                is_sum(reader) for reader, _ in fgraph.clients[y]
            ):
                continue
            residual = self.terms.index(others)
            if self.slots[residual].type.shape != y.type.shape:
                continue
            self.steps[slot - 1] = step._replace(residual=residual)
            self.slots[slot], self.terms[slot] = node.outputs[0], wanted
            self.nodes.add(node)
            return True
        return False

    def filters(self) -> list[Variable]:
        """Those of every step."""
        found, left = [], iter(self.weights)
        for step in self.steps:
            found.append(next(left))
            if step.convolution.biased:
                next(left)
        return found

    def outputs(self, fgraph: FunctionGraph, inside: set[Apply]) -> list[int]:
        """The steps whose results are needed by others than the nodes inside."""
        return [
            i
            for i, variable in enumerate(self.slots[1:])
            if any(reader not in inside for reader, _ in fgraph.clients[variable])
        ]

    def complete(self, fgraph: FunctionGraph, inside: set[Apply]) -> bool:
        """Whether nobody outside reads a term that was joined with others in its step."""
        held = set(self.slots)
        return all(
            reader in inside
            for node in self.nodes
            if node.outputs[0] not in held
            for reader, _ in fgraph.clients[node.outputs[0]]
        )


def _is_depthwise(op: Convolution) -> bool:
    return op.groups > 1


def _suits(node: Apply) -> bool:
    """Whether the node is a 1×1 convolution or a depthwise one, of a known number of channels."""
    op = node.op
    if type(op) is not Convolution:
        return False
    w = node.inputs[1].type.shape
    if op.groups > 1:
        return w[:2] == (op.groups, 1) and None not in w
    return w[0] is not None and is_pointwise(op, w)


def _is_first_layer(node: Apply) -> bool:
    """Whether the node is a convolution of pictures, with few enough filters to pack them often."""
    if type(node.op) is not Convolution or node.op.groups > 1:
        return False
    w = node.inputs[1].type.shape
    return None not in w and w[1] <= _COLORS and w[0] <= _FIRST_FILTERS


def _chains(fgraph: FunctionGraph) -> Iterator[_Chain]:
    """The chains of a graph, each as long as possible."""
    open_: dict[Variable, _Chain] = {}
    found: list[_Chain] = []
    for node in fgraph.toposort():
        chain = open_.get(node.inputs[0]) if node.inputs else None
        if _suits(node) or (chain is None and _is_first_layer(node)):
            if chain is not None and not _room(chain, node):
                chain = None
            if chain is None:
                chain = _Chain(node.inputs[0])
                found.append(chain)
            source = chain.slot_of(node.inputs[0])
            assert source is not None
            chain.add_step(node, source)
            open_[node.outputs[0]] = chain
        elif is_sum(node):
            chain = next((open_[x] for x in node.inputs if x in open_), None)
            if chain is not None and chain.add_sum(fgraph, node):
                open_[node.outputs[0]] = chain
    yield from found


def _room(chain: _Chain, node: Apply) -> bool:
    """Whether the chain may take another step, whose weights do not depend on it."""
    if chain.slot_of(node.inputs[0]) is None:
        return False
    if len(chain.weights) + len(node.inputs) > MAX_INPUTS:  # the chain's x stands for the node's
        return False
    return not _depends(node.inputs[1:], chain)


def _depends(weights: Sequence[Variable], chain: _Chain) -> bool:
    """Whether weights are computed from what the chain computes."""
    computed = [w for w in weights if w.owner is not None]
    return bool(computed) and any(v in chain.slots[1:] for v in ancestors(computed))


def _join(fgraph: FunctionGraph, chain: _Chain) -> bool:
    """Make one operation of a chain, and one of its gradient, if it is worth it."""
    if len(chain.steps) < 2 or not any(_is_depthwise(s.convolution) for s in chain.steps):
        return False
    gradient = find_gradient(fgraph, chain.steps, chain.slots, chain.filters())
    inside = chain.nodes | gradient.nodes if gradient else chain.nodes
    outputs = chain.outputs(fgraph, inside)
    if gradient and gradient.g in chain.slots[1:]:  # of half the square of an output, say
        outputs = sorted({*outputs, chain.slots.index(gradient.g) - 1})
    few = 2 * len(outputs) <= len(chain.steps) and len(outputs) < MAX_OUTPUTS
    if not few or not (outputs or gradient) or not chain.complete(fgraph, inside):
        return False
    if _depends(chain.weights, chain):  # since another chain was joined
        return False
    op = ConvolutionChain(tuple(chain.steps), tuple(outputs), gradient is not None)
    new = op.make_node(chain.x, *chain.weights).outputs
    replacements = {chain.slots[1 + i]: y for i, y in zip(outputs, new, strict=False)}
    if gradient:
        backward = ConvolutionChainGradient(op.steps, gradient.first)
        g = replacements.get(gradient.g, gradient.g)
        replacements[gradient.result] = backward(chain.x, new[-1], g, *chain.filters())
    fgraph.replace_all_validate(list(replacements.items()), reason="chain_convolutions")
    return True


class ChainConvolutions(GraphRewriter):
    """Make one operation of every chain worth it."""

    def apply(self, fgraph: FunctionGraph, *args: Any, **kwargs: Any) -> None:
        # One after the other, each found in the graph as it then is.
        while any(_join(fgraph, chain) for chain in _chains(fgraph)):
            pass
