/* Batch normalization (Ioffe and Szegedy 2015, algorithm 1) and its gradient, simplified so that
 * two passes over memory do: one for the sums, one for the result. Every thread has channels of
 * its own. x is (batch, channels, ...).
 */
#include "kernels.h"

typedef struct {
    int64_t batch, channels, size; /* size: places of one channel of one example */
} layout;

static layout layout_of(const tensor *x) {
    const int64_t batch = x->shape[0], channels = x->shape[1];
    return (layout){batch, channels, count(x) / max64(batch * channels, 1)};
}

static int same_shape(const tensor *a, const tensor *b) {
    if (a->ndim != b->ndim) return 0;
    for (int64_t i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return 0;
    return 1;
}

static int per_channel(const tensor *x, const tensor *numbers) {
    return numbers->ndim == 1 && numbers->shape[0] == x->shape[1];
}

/* batch_norm(x, gamma, beta, epsilon) -> y, mean, variance (biased) */
EXPORT int KERNEL(batch_norm_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    if (in[0].ndim < 2) REFUSE("batch norm: needs an axis of channels");
    if (!per_channel(&in[0], &in[1]) || !per_channel(&in[0], &in[2]))
        REFUSE("batch norm: scale and shift must have a number for each channel");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    SET_SHAPE(&out[1], in[0].shape[1]);
    SET_SHAPE(&out[2], in[0].shape[1]);
    return 0;
}

EXPORT int KERNEL(batch_norm)(KERNEL_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    const layout l = layout_of(&in[0]);
    const real *x = in[0].data, *gamma = in[1].data, *beta = in[2].data;
    const real epsilon = *(const real *)in[3].data;
    real *y = out[0].data, *means = out[1].data, *variances = out[2].data;
    const double total = (double)max64(l.batch * l.size, 1);
#pragma omp parallel for schedule(static) if (count(&in[0]) > 50000)
    for (int64_t c = 0; c < l.channels; c++) {
        double sum = 0, squares = 0; /* one rounding a plane, not one an element */
        for (int64_t n = 0; n < l.batch; n++) {
            const real *plane = x + (n * l.channels + c) * l.size;
            real part = 0;
            for (int64_t i = 0; i < l.size; i++) part += plane[i];
            sum += part;
        }
        const real mean = (real)(sum / total);
        for (int64_t n = 0; n < l.batch; n++) {
            const real *plane = x + (n * l.channels + c) * l.size;
            real part = 0;
            for (int64_t i = 0; i < l.size; i++) part += (plane[i] - mean) * (plane[i] - mean);
            squares += part;
        }
        const real variance = (real)(squares / total);
        const real scale = gamma[c] / (real)sqrt((double)variance + (double)epsilon);
        const real shift = beta[c];
        for (int64_t n = 0; n < l.batch; n++) {
            const int64_t start = (n * l.channels + c) * l.size;
            for (int64_t i = start; i < start + l.size; i++) y[i] = (x[i] - mean) * scale + shift;
        }
        means[c] = mean;
        variances[c] = variance;
    }
    return 0;
}

/* batch_norm_gradient(x, gamma, mean, variance, g, epsilon) -> d x, d gamma, d beta; d x may lie
 * where g does:  d x = gamma / s (g - (d beta + z d gamma) / N),  z = (x - mean) / s. */
EXPORT int KERNEL(batch_norm_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    if (in[0].ndim < 2) REFUSE("batch norm: needs an axis of channels");
    if (!same_shape(&in[0], &in[4])) REFUSE("batch norm: the gradient must have the output's shape");
    for (int64_t i = 1; i < 4; i++)
        if (!per_channel(&in[0], &in[i]))
            REFUSE("batch norm: scale and statistics must have a number for each channel");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    SET_SHAPE(&out[1], in[0].shape[1]);
    SET_SHAPE(&out[2], in[0].shape[1]);
    return 0;
}

EXPORT int KERNEL(batch_norm_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    const layout l = layout_of(&in[0]);
    const real *x = in[0].data, *gamma = in[1].data, *means = in[2].data, *variances = in[3].data;
    const real *g = in[4].data, epsilon = *(const real *)in[5].data;
    real *dx = out[0].data, *dgamma = out[1].data, *dbeta = out[2].data;
    const double total = (double)max64(l.batch * l.size, 1);
#pragma omp parallel for schedule(static) if (count(&in[0]) > 50000)
    for (int64_t c = 0; c < l.channels; c++) {
        const real mean = means[c];
        const real inverse = (real)(1 / sqrt((double)variances[c] + (double)epsilon));
        double plain = 0, weighted = 0;
        for (int64_t n = 0; n < l.batch; n++) {
            const int64_t start = (n * l.channels + c) * l.size;
            real part = 0, product = 0;
            for (int64_t i = start; i < start + l.size; i++) {
                part += g[i];
                product += g[i] * (x[i] - mean);
            }
            plain += part;
            weighted += product;
        }
        weighted *= inverse;
        const real scale = gamma[c] * inverse;
        const real shift = (real)(plain / total), slope = (real)(weighted * inverse / total);
        for (int64_t n = 0; n < l.batch; n++) {
            const int64_t start = (n * l.channels + c) * l.size;
            for (int64_t i = start; i < start + l.size; i++)
                dx[i] = scale * (g[i] - shift - (x[i] - mean) * slope);
        }
        dgamma[c] = (real)weighted;
        dbeta[c] = (real)plain;
    }
    return 0;
}
