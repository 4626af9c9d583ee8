"""Every operation of dlmie in JAX against its NumPy definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pytensor.graph.basic import Apply
from sanitize_kernels import Case, assert_close, cases, kernel_ops, walk

jax = pytest.importorskip("jax", reason="needs JAX: pip install dlmie[gpu]")

from pytensor.link.jax.dispatch import jax_funcify  # noqa: E402

from dlmie.backends.jax.configuration import configure  # noqa: E402
from dlmie.backends.jax.functions import register_forms  # noqa: E402
from dlmie.ops.collectives.sum_over_ranks import SumOverRanks  # noqa: E402
from dlmie.ops.runtime.jax_forms import Form  # noqa: E402

CASES = list(cases())


def form(node: Apply) -> Form:
    return jax.jit(jax_funcify(node.op, node=node))


@pytest.fixture(autouse=True)
def forms() -> Iterator[None]:
    configure()
    register_forms()
    yield
    jax.clear_caches()  # hundreds of compiled functions take gigabytes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=[f"{i} {case.name}" for i, case in enumerate(CASES)])
def test_equals_the_numpy_definition(case: Case, dtype: str) -> None:
    visited = []

    def compare(node: Apply, inputs: list[np.ndarray], wanted: list[np.ndarray]) -> None:
        visited.append(node.op)
        made = form(node)(*inputs)
        found = made if isinstance(made, tuple) else (made,)
        assert_close([np.asarray(x) for x in found], wanted, f"{case.name}: {node.op}")

    walk(case, dtype, compare)
    assert visited


#: Operations without a form, and why.
WITHOUT = {"SumOverRanks": "one process uses one device; several ranks have the C backend"}


def test_every_operation_has_a_form_of_its_own() -> None:
    """Not one that it inherits, which would compute what its base does."""
    kernels = {op for op in kernel_ops() if op.__module__.startswith("dlmie.")}
    assert len(kernels) > 25
    known = set(jax_funcify.registry)
    assert {op.__name__ for op in (kernels | {SumOverRanks}) - known} == set(WITHOUT)
