/* tanh, the logistic function and exp of every element, vectorized (vmath.h) and on all threads. */
#include "vmath.h"

enum { TANH, SIGMOID, EXP };

#define BLOCK 4096

/* elementwise(x; which function) -> y */
EXPORT int KERNEL(elementwise_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(elementwise)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t size = count(&in[0]);
#pragma omp parallel for schedule(static) if (size > 20000)
    for (int64_t from = 0; from < size; from += BLOCK) {
        const int64_t n = min64(BLOCK, size - from);
        const real *x = (const real *)in[0].data + from;
        real *y = (real *)out[0].data + from;
        if (p[0] == TANH) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = vtanh(x[i]);
        } else if (p[0] == SIGMOID) {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = vsigmoid(x[i]);
        } else {
#pragma omp simd
            for (int64_t i = 0; i < n; i++) y[i] = vexp(x[i]);
        }
    }
    return 0;
}
