"""Maps side by side: their channels one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.basic import Join

from dlmie.ops.runtime.shapes import infers_shape

# The axis is an input of PyTensor's Join in some versions, and a property of it in later ones.
_AXIS_IS_AN_INPUT = "axis" not in Join.__props__


class ChannelJoin(Join):
    """``Join`` on axis 1, whose shape is stated without a choice between axes.

    PyTensor describes every size of a joined tensor as a choice between the sum of all parts' sizes
    and the first one's. In a network that joins again and again such descriptions nest, with all
    their sums: compiling the gradient of one with eleven joins of four would never end.
    """

    @infers_shape
    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        first, *others = shapes[int(_AXIS_IS_AN_INPUT) :]
        channels = first[1]
        for shape in others:
            channels = channels + shape[1]
        return [(first[0], channels, *first[2:])]


def concatenate_channels(maps: Sequence[Variable]) -> Variable:
    """Maps of equal size (batch, channels, rows, columns) → (batch, all channels, rows, columns).

    Examples
    --------
    >>> import numpy as np, dlmie
    >>> import pytensor.tensor as pt
    >>> x = pt.tensor4("x", dtype="float32")
    >>> y = concatenate_channels([x, 2 * x])
    >>> dlmie.function([x], y)(np.ones((1, 1, 1, 2), "float32")).tolist()
    [[[[1.0, 1.0]], [[2.0, 2.0]]]]
    """
    if len(maps) == 1:
        return maps[0]
    joined: Variable = ChannelJoin()(1, *maps) if _AXIS_IS_AN_INPUT else ChannelJoin(1)(*maps)
    return joined
