"""KernelOp: a PyTensor operation whose work is done by a C kernel of the shared library."""

from __future__ import annotations

import functools
import struct
import warnings
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.link.c.op import COp
from pytensor.tensor.type import TensorType

from dlmie.errors import CompilerError
from dlmie.ops.runtime import library
from dlmie.ops.runtime.invocation import MAX_INPUTS, MAX_OUTPUTS, make_call
from dlmie.ops.runtime.shapes import infers_shape

use_kernels: ContextVar[bool] = ContextVar("use_kernels", default=True)


class KernelOp(COp):
    """An operation with a C kernel, and a NumPy definition that is its oracle.

    A subclass states

    * ``kernel``: name of the kernel pair in the C library (see ``kernels.h``),
    * ``__props__``: the attributes that tell two operations apart,
    * ``parameters()``: the integers handed to the kernel, unless they are those attributes,
    * ``outputs_like``: for each output the input whose type and shape it has; where there is none,
      ``output_types(*inputs)`` and ``output_shapes`` instead,
    * ``perform``: the same computation in NumPy, for testing and for machines without a compiler,
    * ``pullback``: the gradient,
    * ``aliases``: ``{output: input}`` for outputs that overwrite an input,
    * ``weights``: the inputs that may also be stored in half precision (``half.h``).

    The first floating input decides the precision; all others must share it, but for such weights.
    """

    kernel: ClassVar[str]
    __props__: tuple[str, ...] = ()
    outputs_like: Sequence[int] = (0,)
    aliases: Mapping[int, int] = {}
    weights: Sequence[int] = ()

    def __init__(self) -> None:
        if self.aliases:
            self.destroy_map = {o: [i] for o, i in self.aliases.items()}

    def parameters(self) -> Sequence[int]:
        return [getattr(self, name) for name in self.__props__]

    def output_types(self, *inputs: Variable) -> Sequence[Any]:
        types = [inputs[i].type for i in self.outputs_like]
        return [TensorType(t.dtype, shape=t.shape) for t in types]

    def output_shapes(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return [shapes[i] for i in self.outputs_like]

    @infers_shape
    def infer_shape(self, node: Apply, shapes: Sequence[Any]) -> Sequence[Any]:
        return self.output_shapes(node, shapes)

    def make_node(self, *inputs: Any) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        outputs = [t() for t in self.output_types(*variables)]
        if len(variables) > MAX_INPUTS or len(outputs) > MAX_OUTPUTS:
            raise TypeError(
                f"{self}: {len(variables)} inputs and {len(outputs)} outputs are more than the "
                f"{MAX_INPUTS} and {MAX_OUTPUTS} that a kernel may have"
            )
        return Apply(self, variables, outputs)

    def symbols(self, node: Apply) -> list[str]:
        """The C functions that a call of the kernel needs."""
        suffix = {"float32": "f32", "float64": "f64"}[precision(node)]
        kernel = (f"{self.kernel}_shape_{suffix}", f"{self.kernel}_{suffix}")
        return [*kernel, "dlmie_take", "dlmie_give"]  # the latter lend and take memory: memory.c

    def numbers(self, node: Apply) -> list[int]:
        """How many inputs and outputs there are, the type of each input, what is overwritten and
        the type of each output; then the kernel's parameters."""
        inputs = [np.dtype(variable.type.dtype).num for variable in node.inputs]
        outputs = [
            number
            for i, variable in enumerate(node.outputs)
            for number in (self.aliases.get(i, -1), np.dtype(variable.type.dtype).num)
        ]
        parameters = [int(x) for x in self.parameters()]
        return [len(inputs), len(node.outputs), *inputs, *outputs, *parameters]

    def make_c_thunk(
        self, node: Apply, storage_map: Any, compute_map: Any, no_recycling: Any
    ) -> Any:
        """As COp's: a thunk that calls the kernel, and says that its outputs are computed."""
        inputs, outputs = ([storage_map[v] for v in each] for each in (node.inputs, node.outputs))
        facts = library.packed(self.symbols(node), self.numbers(node))
        call = make_call(inputs, outputs, facts)
        computed = [compute_map[v] for v in node.outputs] if compute_map is not None else []

        def thunk() -> None:
            call()
            for flag in computed:
                flag[0] = True

        thunk.thunk, thunk.cthunk = call, call.cthunk  # type: ignore[attr-defined]
        thunk.lazy = False  # type: ignore[attr-defined]
        return thunk

    def make_thunk(
        self,
        node: Apply,
        storage_map: Any,
        compute_map: Any,
        no_recycling: Any,
        impl: str | None = None,
    ) -> Any:
        if impl is None and not kernels_ready():
            impl = "py"
        return super().make_thunk(node, storage_map, compute_map, no_recycling, impl)


def bits(*numbers: float) -> tuple[int, ...]:
    """Numbers among a kernel's parameters: the bits of doubles (``number`` in ``kernels.h``)."""
    return struct.unpack(f"={len(numbers)}q", struct.pack(f"={len(numbers)}d", *numbers))


def kernels_ready() -> bool:
    """Whether kernels are switched on and built; a failing build is told of once."""
    return use_kernels.get() and _library_works()


@functools.cache
def _library_works() -> bool:
    try:
        library.load()
    except (CompilerError, OSError) as error:
        warnings.warn(f"running without C kernels, slowly: {error}", RuntimeWarning, stacklevel=3)
        return False
    return True


def precision(node: Apply) -> str:
    """The floating dtype an operation computes in."""
    stored = set(getattr(node.op, "weights", ()))
    counted = [
        *(v for i, v in enumerate(node.inputs) if i not in stored or v.type.dtype != "float16"),
        *node.outputs,
    ]
    dtypes = {v.type.dtype for v in counted if v.type.dtype.startswith("float")}
    if len(dtypes) != 1 or not dtypes <= {"float32", "float64"}:
        raise TypeError(f"{node.op}: mixed or unsupported floating dtypes {sorted(dtypes)}")
    return dtypes.pop()
