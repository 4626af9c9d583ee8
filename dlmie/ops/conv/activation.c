/* ReLU and ReLU6, their gradient from their output, and sums over channels: one pass over memory,
 * every thread on channels of its own.
 */
#include "conv.h"

/* activation(x; kind) -> y, of any shape */
EXPORT int KERNEL(activation_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(activation)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const real *x = in[0].data, ceiling = p[0] == RELU6 ? 6 : (real)INFINITY;
    real *y = out[0].data;
    const int64_t size = count(&in[0]);
#pragma omp parallel for simd schedule(static) if (size > 50000)
    for (int64_t i = 0; i < size; i++) {
        const real v = x[i] < 0 ? 0 : x[i];
        y[i] = v > ceiling ? ceiling : v;
    }
    return 0;
}

/* channel_sum(x (batch, channels, ...)) -> (channels,): the gradient of a bias. */
EXPORT int KERNEL(channel_sum_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    if (in[0].ndim < 2) REFUSE("channel_sum: needs an axis of channels");
    SET_SHAPE(&out[0], in[0].shape[1]);
    return 0;
}

EXPORT int KERNEL(channel_sum)(KERNEL_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    const int64_t batch = in[0].shape[0], channels = in[0].shape[1];
    const int64_t size = count(&in[0]) / max64(batch * channels, 1);
    const real *x = in[0].data;
    real *sums = out[0].data;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++) {
        double total = 0; /* one rounding a plane, not one an element */
        for (int64_t n = 0; n < batch; n++) {
            const real *plane = x + (n * channels + c) * size;
            real sum = 0;
            for (int64_t i = 0; i < size; i++) sum += plane[i];
            total += sum;
        }
        sums[c] = (real)total;
    }
    return 0;
}

/* activation_gradient(y, g; kind, sums) -> g where y, the activation's output, is neither 0 nor at
 * its ceiling, else 0; and if `sums`, its sums over each channel of (batch, channels, ...). */
EXPORT int KERNEL(activation_gradient_shape)(SHAPE_ARGUMENTS) {
    for (int64_t i = 0; i < max64(in[0].ndim, in[1].ndim); i++)
        if (in[1].ndim != in[0].ndim || in[1].shape[i] != in[0].shape[i])
            REFUSE("activation_gradient: the gradient must have the shape of the output");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    if (!p[1]) return 0;
    if (in[0].ndim < 2) REFUSE("activation_gradient: needs an axis of channels");
    SET_SHAPE(&out[1], in[0].shape[1]);
    return 0;
}

/* Mask one run of memory; returns the sum of what is left. */
static real mask(const real *y, const real *g, int64_t size, real ceiling, real *masked) {
    real sum = 0;
    for (int64_t i = 0; i < size; i++) {
        masked[i] = y[i] > 0 && y[i] < ceiling ? g[i] : 0;
        sum += masked[i];
    }
    return sum;
}

EXPORT int KERNEL(activation_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const real *y = in[0].data, *g = in[1].data;
    const real ceiling = p[0] == RELU6 ? 6 : (real)INFINITY;
    real *masked = out[0].data;
    if (!p[1]) {
        const int64_t size = count(&in[0]), piece = 16384;
#pragma omp parallel for schedule(static) if (size > 50000)
        for (int64_t i = 0; i < size; i += piece)
            mask(y + i, g + i, min64(piece, size - i), ceiling, masked + i);
        return 0;
    }
    const int64_t batch = in[0].shape[0], channels = in[0].shape[1];
    const int64_t size = count(&in[0]) / max64(batch * channels, 1);
    real *sums = out[1].data;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++) {
        double total = 0; /* one rounding a plane, not one an element */
        for (int64_t n = 0; n < batch; n++) {
            const int64_t start = (n * channels + c) * size;
            total += mask(y + start, g + start, size, ceiling, masked + start);
        }
        sums[c] = (real)total;
    }
    return 0;
}
