"""Operations that may compute where an input stands, and the rewrite that lets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pytensor.graph.basic import Constant
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import GraphRewriter
from pytensor.graph.utils import InconsistencyError

from dlmie.ops.runtime.kernel_op import KernelOp


class Overwriting(KernelOp):
    """An operation whose kernel works as well when an output lies in the memory of an input.

    ``overwritable`` lists choices of ``{output: input}``, the best first; ``overwrites`` is the
    choice made, or None: graphs are built without, and :class:`OverwriteInputs` chooses when a
    function is compiled, where nothing else needs the input.
    """

    overwritable: Sequence[Mapping[int, int]] = ()

    def __init__(self, overwrites: int | None = None) -> None:
        self.overwrites = overwrites
        if overwrites is not None:
            self.aliases = self.overwritable[overwrites]
        super().__init__()

    def parameters(self) -> Sequence[int]:
        return [getattr(self, name) for name in self.__props__ if name != "overwrites"]

    def overwriting(self, choice: int) -> Self:
        """The same operation with that choice made."""
        options = {name: getattr(self, name) for name in self.__props__}
        return type(self)(**{**options, "overwrites": choice})


class OverwriteInputs(GraphRewriter):
    """Let operations overwrite inputs that nothing else needs afterwards."""

    def apply(self, fgraph: FunctionGraph, *args: Any, **kwargs: Any) -> None:
        for node in list(fgraph.toposort()):
            op = node.op
            if not isinstance(op, Overwriting) or op.overwrites is not None:
                continue
            for choice, aliases in enumerate(op.overwritable):
                if any(isinstance(node.inputs[i], Constant) for i in aliases.values()):
                    continue
                new = op.overwriting(choice).make_node(*node.inputs).outputs
                try:  # PyTensor refuses where someone else still needs the input
                    fgraph.replace_all_validate(
                        list(zip(node.outputs, new, strict=True)), reason="overwrite_inputs"
                    )
                except InconsistencyError:
                    continue
                break
