"""What operations with optional inputs and several outputs need to state their gradients."""

from __future__ import annotations

from typing import Any, ClassVar

import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable

from dlmie.ops.runtime.kernel_op import KernelOp


class PartlyDifferentiable(KernelOp):
    """An operation some of whose inputs (ids, masks, random numbers) have no gradient.

    ``differentiable`` counts the leading inputs that have one.
    """

    differentiable: ClassVar[int]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """For every input, for every output: whether a gradient flows."""
        return [[i < self.differentiable] * len(node.outputs) for i in range(len(node.inputs))]


def connected(cotangent: Variable) -> bool:
    """Whether anything depends on the output that this is the gradient of."""
    return not isinstance(cotangent.type, DisconnectedType)


def disconnected(count: int) -> list[Variable]:
    """The gradients of that many inputs that have none."""
    return [DisconnectedType()() for _ in range(count)]


def as_mask(mask: Any, dtype: str) -> list[Variable]:
    """An optional mask as a list of none or one input in the operation's dtype."""
    return [] if mask is None else [pt.cast(pt.as_tensor_variable(mask), dtype)]


def as_ids(ids: Any) -> Variable:
    """Integers as the kernels take them: int32."""
    ids = pt.as_tensor_variable(ids)
    if ids.type.dtype not in ("int8", "int16", "int32", "int64", "uint8", "uint16"):
        raise TypeError(f"ids must be integers, not {ids.type.dtype}")
    return pt.cast(ids, "int32")


def same_precision(*variables: Any) -> list[Variable]:
    """Variables, which must all be of one floating dtype."""
    result = [pt.as_tensor_variable(v) for v in variables]
    dtypes = sorted({v.type.dtype for v in result})
    if dtypes not in (["float32"], ["float64"]):
        raise TypeError(f"inputs must all be float32 or all float64, not {', '.join(dtypes)}")
    return result
