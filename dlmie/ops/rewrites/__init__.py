"""Graph rewrites of dlmie, registered under a tag that only ``dlmie.function`` includes."""

from pytensor.compile.mode import optdb
from pytensor.graph.rewriting.basic import dfs_rewriter, in2out

from dlmie.ops.rewrites.chains import ChainConvolutions
from dlmie.ops.rewrites.convolution import (
    fold_scale_and_shift,
    fuse_activation,
    fuse_max_pool,
    mask_before_spreading,
    sum_before_spreading,
    sum_while_masking,
)
from dlmie.ops.rewrites.dense import (
    join_bias,
    join_optimizer_step,
    use_dlmie_matmul,
    use_dlmie_softmax,
    use_parallel_sums,
    use_vectorized_functions,
)
from dlmie.ops.rewrites.normalization import join_activation, mask_in_gradient
from dlmie.ops.rewrites.weights import PackFilters, StoreWeightsInHalf
from dlmie.ops.runtime.inplace import OverwriteInputs

__all__ = ["FIXED", "TAG"]

TAG = "dlmie"
FIXED = "dlmie_fixed"  # included where shared variables do not change any more

# Their order among PyTensor's own, by position.
for position, walk, rewrite in (
    # Looks for what layers write, before canonicalization spreads it over the graph.
    (0.7, in2out, fold_scale_and_shift),
    # Once canonicalization has removed readers that only wanted a shape.
    (1.65, dfs_rewriter, fuse_activation),
    (1.651, dfs_rewriter, join_activation),
    (1.652, dfs_rewriter, mask_in_gradient),
    (1.655, dfs_rewriter, fuse_max_pool),
    (1.656, dfs_rewriter, mask_before_spreading),
    (1.657, dfs_rewriter, sum_before_spreading),
    (1.66, dfs_rewriter, sum_while_masking),
    (1.68, dfs_rewriter, use_dlmie_softmax),
    # Before PyTensor's own BLAS rewrites, which start at 1.7.
    (1.69, dfs_rewriter, use_dlmie_matmul),
    # After its simplifications, before it fuses what is left of elementwise operations.
    (45.0, dfs_rewriter, join_bias),
    (45.1, dfs_rewriter, use_parallel_sums),
    (45.2, dfs_rewriter, join_optimizer_step),
    (45.3, dfs_rewriter, use_vectorized_functions),
):
    optdb.register(str(rewrite), walk(rewrite), TAG, position=position)
# Convolutions have their activations, and sums are still operations of their own.
optdb.register("chain_convolutions", ChainConvolutions(), TAG, position=1.67)
# Once it knows what may be destroyed, before its own elementwise operations take it.
optdb.register("overwrite_inputs", OverwriteInputs(), TAG, position=50.05)
# Last: nothing compares or merges these constants any more, which takes a while for large ones.
optdb.register("store_weights_in_half", StoreWeightsInHalf(), FIXED, position=101)
optdb.register("pack_filters", PackFilters(), FIXED, position=101)
