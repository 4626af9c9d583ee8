/* ReLU, ReLU6 and leaky ReLU, their gradient from their output, and sums over channels: one pass
 * over memory, every thread on channels of its own. Results may lie where x or g does.
 */
#include "conv.h"

enum { LARGE = 50000, PIECE = 16384 };

/* What is made of numbers that are not positive: slope times them, or 0 without a slope. */
typedef struct {
    real ceiling, slope;
} shape;

static shape shape_of(int64_t kind, int64_t slope) {
    return (shape){kind == RELU6 ? 6 : (real)INFINITY, (real)number(slope)};
}

static inline __attribute__((always_inline)) void
activate_run(const int leaky, const real *x, int64_t size, shape s, real *y) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        const real v = x[i] < 0 ? (leaky ? s.slope * x[i] : 0) : x[i]; /* NaN stays */
        y[i] = v > s.ceiling ? s.ceiling : v;
    }
}

/* activation(x; kind, slope as bits) -> y, of any shape */
EXPORT int KERNEL(activation_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(activation)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const real *x = in[0].data;
    real *y = out[0].data;
    const shape s = shape_of(p[0], p[1]);
    const int64_t size = count(&in[0]);
#pragma omp parallel for schedule(static) if (size > LARGE)
    for (int64_t i = 0; i < size; i += PIECE)
        if (s.slope != 0) activate_run(1, x + i, min64(PIECE, size - i), s, y + i);
        else activate_run(0, x + i, min64(PIECE, size - i), s, y + i);
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
#pragma omp parallel for schedule(static) if (count(&in[0]) > LARGE)
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

/* activation_gradient(y, g; kind, sums, slope as bits) -> g where y, the activation's output, is
 * neither 0 nor at its ceiling, else 0, or where it is not positive slope times g; and if `sums`, the
 * sums over each channel of (batch, channels, ...). */
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
static inline __attribute__((always_inline)) real
mask_run(const int leaky, const real *y, const real *g, int64_t size, shape s, real *masked) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) {
        const real left = y[i] > 0 && y[i] < s.ceiling ? g[i] : 0;
        masked[i] = leaky && !(y[i] > 0) ? s.slope * g[i] : left;
        sum += masked[i];
    }
    return sum;
}

static real mask(const real *y, const real *g, int64_t size, shape s, real *masked) {
    return s.slope != 0 ? mask_run(1, y, g, size, s, masked) : mask_run(0, y, g, size, s, masked);
}

EXPORT int KERNEL(activation_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const real *y = in[0].data, *g = in[1].data;
    const shape s = shape_of(p[0], p[2]);
    real *masked = out[0].data;
    if (!p[1]) {
        const int64_t size = count(&in[0]);
#pragma omp parallel for schedule(static) if (size > LARGE)
        for (int64_t i = 0; i < size; i += PIECE)
            mask(y + i, g + i, min64(PIECE, size - i), s, masked + i);
        return 0;
    }
    const int64_t batch = in[0].shape[0], channels = in[0].shape[1];
    const int64_t size = count(&in[0]) / max64(batch * channels, 1);
    real *sums = out[1].data;
#pragma omp parallel for schedule(static) if (count(&in[0]) > LARGE)
    for (int64_t c = 0; c < channels; c++) {
        double total = 0; /* one rounding a plane, not one an element */
        for (int64_t n = 0; n < batch; n++) {
            const int64_t start = (n * channels + c) * size;
            total += (double)mask(y + start, g + start, size, s, masked + start);
        }
        sums[c] = (real)total;
    }
    return 0;
}
