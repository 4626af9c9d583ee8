/* Sums over one axis and sums of squares, with partial sums in one order, whatever the number of
 * threads, and totals in double.
 */
#include "vmath.h"

#define BLOCK 1024

/* sum_axis(x; axis) -> x without that axis.  x is looked at as (outer, n, inner); the independent
 * work is an outer index and a strip of inner ones. */
EXPORT int KERNEL(sum_axis_shape)(SHAPE_ARGUMENTS) {
    if (p[0] < 0 || p[0] >= in[0].ndim) REFUSE("sum_axis: no such axis");
    out[0].ndim = 0;
    for (int64_t d = 0; d < in[0].ndim; d++)
        if (d != p[0]) out[0].shape[out[0].ndim++] = in[0].shape[d];
    return 0;
}

EXPORT int KERNEL(sum_axis)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const real *x = in[0].data;
    real *y = out[0].data;
    const int64_t n = in[0].shape[p[0]];
    int64_t outer = 1, inner = 1;
    for (int64_t d = 0; d < p[0]; d++) outer *= in[0].shape[d];
    for (int64_t d = p[0] + 1; d < in[0].ndim; d++) inner *= in[0].shape[d];
    const int64_t strip = inner < 256 ? max64(inner, 1) : 256;
    const int64_t strips = (inner + strip - 1) / strip;
#pragma omp parallel for schedule(static) if (outer * n * inner > 50000)
    for (int64_t work = 0; work < outer * strips; work++) {
        const int64_t from = work % strips * strip, width = min64(strip, inner - from);
        const real *start = x + work / strips * n * inner + from;
        real *result = y + work / strips * inner + from;
        double total[256];
        memset(total, 0, sizeof(double) * (size_t)width);
        if (inner == 1) { /* along memory: a block at a time */
            for (int64_t i = 0; i < n; i += BLOCK) {
                const int64_t end = min64(i + BLOCK, n);
                real sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t k = i; k < end; k++) sum += start[k];
                total[0] += (double)sum;
            }
        } else {
            for (int64_t i = 0; i < n; i++)
                for (int64_t k = 0; k < width; k++) total[k] += (double)start[i * inner + k];
        }
        for (int64_t k = 0; k < width; k++) result[k] = (real)total[k];
    }
    return 0;
}

/* sum_of_squares(x) -> () */
EXPORT int KERNEL(sum_of_squares_shape)(SHAPE_ARGUMENTS) {
    UNUSED(in), UNUSED(p), UNUSED(error);
    out[0].ndim = 0;
    return 0;
}

EXPORT int KERNEL(sum_of_squares)(KERNEL_ARGUMENTS) {
    UNUSED(p);
    const real *x = in[0].data;
    const int64_t size = count(&in[0]), blocks = (size + BLOCK - 1) / BLOCK;
    double *sums = malloc(sizeof(double) * (size_t)max64(blocks, 1)), total = 0;
    if (!sums) REFUSE("sum_of_squares: out of memory");
#pragma omp parallel for schedule(static) if (size > 20000)
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t from = block * BLOCK, n = min64(BLOCK, size - from);
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += x[from + i] * x[from + i];
        sums[block] = (double)sum;
    }
    for (int64_t block = 0; block < blocks; block++) total += sums[block];
    free(sums);
    *(real *)out[0].data = (real)total;
    return 0;
}
