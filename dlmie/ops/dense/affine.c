/* x W + b: the rows of the result start as b, and the matrix product is added to them, so that the
 * bias costs no pass over memory of its own (BLAS would fill the result with zeros instead).
 */
#include "kernels.h"

/* affine(x (m, k) or its transpose, W (k, n) or its transpose, b (n); transpose x, transpose W) */
EXPORT int KERNEL(affine_shape)(SHAPE_ARGUMENTS) {
    const int tx = p[0] != 0, tw = p[1] != 0;
    if (in[0].ndim != 2 || in[1].ndim != 2 || in[2].ndim != 1)
        REFUSE("affine: needs two matrices and a vector");
    const int64_t k = in[0].shape[!tx], k_w = in[1].shape[tw], n = in[1].shape[!tw];
    if (k != k_w)
        REFUSE("affine: inner sizes differ, %lld and %lld", (long long)k, (long long)k_w);
    if (in[2].shape[0] != n)
        REFUSE("affine: %lld columns, but a bias of %lld", (long long)n,
               (long long)in[2].shape[0]);
    if (in[1].half && (tx || tw)) REFUSE("affine: in half precision nothing is transposed");
    SET_SHAPE(&out[0], in[0].shape[tx], n);
    return 0;
}

EXPORT int KERNEL(affine)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t m = out[0].shape[0], n = out[0].shape[1], k = in[0].shape[!p[0]];
    real *y = out[0].data;
#pragma omp parallel for schedule(static) if (m * n > 50000)
    for (int64_t i = 0; i < m; i++) memcpy(y + i * n, in[2].data, sizeof(real) * (size_t)n);
    if (k && in[1].half)
        KERNEL(gemm_half)(m, n, k, in[0].data, in[1].data, 1, y);
    else if (k)
        KERNEL(gemm)(p[0] != 0, p[1] != 0, m, n, k, 1, in[0].data, in[0].shape[1], in[1].data,
                     in[1].shape[1], 1, y, n);
    return 0;
}
