"""Matrix products, sums, elementwise functions and embeddings in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dlmie.ops.dense.affine import Affine
from dlmie.ops.dense.elementwise import Vectorized
from dlmie.ops.dense.embedding import EmbeddingGradient, EmbeddingRows
from dlmie.ops.dense.matmul import MatMul
from dlmie.ops.dense.sums import SumAxis, SumOfSquares
from dlmie.ops.runtime.jax_forms import Form, jax_form


def _product(op: MatMul, a: jax.Array, b: jax.Array) -> jax.Array:
    return (a.T if op.transpose_a else a) @ (b.T if op.transpose_b else b)


@jax_form(MatMul)
def matmul(op: MatMul) -> Form:
    """A product of matrices, transposed or not."""
    return lambda a, b: _product(op, a, b)


@jax_form(Affine)
def affine(op: Affine) -> Form:
    """A product of matrices, and a bias."""
    return lambda x, w, b: _product(op, x, w) + b


@jax_form(SumAxis)
def sum_axis(op: SumAxis) -> Form:
    """A sum over one axis."""
    return lambda x: x.sum(axis=op.axis)


@jax_form(SumOfSquares)
def sum_of_squares(op: SumOfSquares) -> Form:
    """The sum of all squares."""
    return lambda x: jnp.square(x).sum()


@jax_form(Vectorized)
def vectorized(op: Vectorized) -> Form:
    """tanh, sigmoid or exp."""
    functions: dict[str, Form] = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "exp": jnp.exp}
    return functions[op.kind]


@jax_form(EmbeddingRows)
def embedding_rows(op: EmbeddingRows) -> Form:
    """Rows by their numbers; of one out of range, the nearest."""
    return lambda w, ids: jnp.take(w, ids, axis=0, mode="clip")


@jax_form(EmbeddingGradient)
def embedding_gradient(op: EmbeddingGradient) -> Form:
    """Gradients added at the rows that they belong to."""
    return lambda w, ids, g: jnp.zeros(w.shape, w.dtype).at[ids].add(g)
