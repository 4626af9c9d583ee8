"""Rewrites around batch normalization.

* ``join_activation``: ``relu(batch_norm(x))`` is one pass over what is stored.
* ``mask_in_gradient``: its gradient finds again from x what the ReLU let through.
"""

from __future__ import annotations

from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.graph.rewriting.basic import node_rewriter

from dlmie.ops.conv.activation import Activation, ActivationGradient
from dlmie.ops.normalization.batch_norm import BatchNormalize, BatchNormalizeGradient


@node_rewriter([Activation])
def join_activation(fgraph: Any, node: Apply) -> dict[Variable, Variable] | None:
    """``activation(batch_norm(x))``, where nobody else reads the normalized x → one operation."""
    y = node.inputs[0]
    norm = y.owner
    if norm is None or not isinstance(norm.op, BatchNormalize) or norm.op.activation is not None:
        return None
    if node.op.slope or y is not norm.outputs[0] or len(fgraph.clients[y]) != 1:
        return None
    active, mean, variance = BatchNormalize(node.op.kind)(*norm.inputs)
    return {node.outputs[0]: active, norm.outputs[1]: mean, norm.outputs[2]: variance}


@node_rewriter([BatchNormalizeGradient])
def mask_in_gradient(fgraph: Any, node: Apply) -> list[Variable] | None:
    """The gradient of such an operation, of a gradient that is masked before → one operation."""
    x, gamma, mean, variance, masked, epsilon = node.inputs[:6]
    masking = masked.owner
    if node.op.activation is not None or len(fgraph.clients[masked]) != 1:
        return None
    if masking is None or not isinstance(masking.op, ActivationGradient) or masking.op.slope:
        return None
    active, g = masking.inputs
    norm = active.owner
    if norm is None or norm.op != BatchNormalize(masking.op.kind) or active is not norm.outputs[0]:
        return None
    beta = norm.inputs[2]
    if [x, gamma, epsilon] != [norm.inputs[i] for i in (0, 1, 3)]:
        return None
    if [mean, variance] != norm.outputs[1:]:
        return None
    made = BatchNormalizeGradient(masking.op.kind)(x, gamma, mean, variance, g, epsilon, beta)
    return [*made]
