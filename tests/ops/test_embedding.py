"""Embedding: rows and their gradient, repeated ids, foreign ids."""

from __future__ import annotations

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from sequence_cases import Case, threads

from dlmie.compilation import function
from dlmie.ops.dense.embedding import EmbeddingGradient, embedding


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ndim", [0, 1, 2])
def test_embedding(ndim: int, dtype: str) -> None:
    case = Case(lambda w, ids: [embedding(w, ids)], [dtype, "int32"], [2, ndim], 1)
    random = np.random.default_rng(0)
    for words, size, shape in [
        (1, 1, (1, 1)),
        (7, 17, (4, 9)),
        (200, 130, (30, 40)),
        (3, 2, (0, 1)),
    ]:
        w = random.normal(size=(words, size)).astype(dtype)
        ids = np.asarray(random.integers(words, size=shape[:ndim]), dtype="int32")
        for count in (1, 2):
            with threads(count):
                case.check_against_numpy(w, ids)
        if dtype == "float64" and ids.size:
            case.check_finite_differences(w, ids)


def test_gradient_is_the_same_for_any_number_of_threads() -> None:
    w, ids, g = pt.fmatrix(), pt.imatrix(), pt.ftensor3()
    gradient = function([w, ids, g], pytensor.grad((embedding(w, ids) * g).sum(), w))
    random = np.random.default_rng(0)
    numbers = random.integers(50, size=(40, 30)).astype("int32")
    arguments = [np.zeros((50, 70), "f"), numbers, random.normal(size=(40, 30, 70)).astype("f")]
    with threads(1):
        one = gradient(*arguments).copy()
    with threads(2):
        assert (gradient(*arguments) == one).all()


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("wrong", [-1, 7])
def test_foreign_ids_are_refused(wrong: int, kernels: bool) -> None:
    ids = pt.lvector()
    run = function([ids], embedding(np.zeros((7, 3), "f"), ids), kernels=kernels)
    with pytest.raises(ValueError, match=f"id {wrong} .*is not in \\[0, 7\\)"):
        run([0, wrong])


@pytest.mark.parametrize("shape", [(2, 4), (3, 3), (3, 4, 1)])
def test_a_gradient_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    w, ids = pt.fmatrix(), pt.ivector()
    g = pt.tensor("g", dtype="float32", shape=(None,) * len(shape))
    run = function([w, ids, g], EmbeddingGradient()(w, ids, g))
    arguments = np.zeros((7, 4), "f"), np.array([0, 1, 2], "int32")
    with pytest.raises(ValueError, match="a row of the matrix's length for each"):
        run(*arguments, np.ones(shape, "f"))


def test_float_ids_are_refused() -> None:
    with pytest.raises(TypeError, match="integers"):
        embedding(pt.fmatrix(), pt.fvector())


def test_golden_rows() -> None:
    w = np.linspace(0, 1, 15).reshape(5, 3)
    rows = function([], embedding(w, np.array([[0, 3, 1, 2], [2, 1, 0, 3]])))()
    np.testing.assert_allclose(rows[0, 1], np.array([9, 10, 11]) / 14)
