/* Softmax, its logarithm and the cross-entropy with integer targets, over the last axis.
 *
 * A row of logits is read twice (its maximum; the sum of exponentials) while it lies in the cache,
 * and no one-hot matrix or matrix of probabilities is ever made.  Rows are independent: each is
 * summed by one thread, so results do not depend on the number of threads.
 *
 *   cross-entropy with label smoothing s (Szegedy et al. 2016), over V classes:
 *   loss = log sum_j e^x_j - (1 - s) x_target - s / V sum_j x_j
 *   gradient = e^(x - log sum) - (1 - s) onehot(target) - s / V
 */
#include "vectors.h"
#include "vmath.h"

/* With vectors of our own: not every compiler turns a loop over maxima into them. */
static inline real maximum(const real *x, int64_t n) {
    real m = -(real)INFINITY;
    vec most = broadcast(m);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        const vec v = load(x + j);
        most = choose(v > most, v, most);
    }
    for (int l = 0; l < LANES; l++) m = most[l] > m ? most[l] : m;
    for (; j < n; j++) m = x[j] > m ? x[j] : m;
    return m;
}

/* What is subtracted before exponentials are taken, so that none overflows. */
static inline real safe_shift(const real *x, int64_t n) {
    const real m = maximum(x, n);
    return isinf(m) ? 0 : m;
}

static inline void check_rows(const tensor *t, int64_t *rows, int64_t *size) {
    *size = t->shape[t->ndim - 1];
    *rows = *size ? count(t) / *size : 0;
}

/* Rows are the independent work. */
#define PARALLEL_ROWS _Pragma("omp parallel for schedule(static) if (rows * size > 20000)")

/* softmax(x (..., V); logarithm) -> softmax or log softmax of x */
EXPORT int KERNEL(softmax_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    if (in[0].ndim < 1) REFUSE("softmax: needs at least one axis");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(softmax)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    int64_t rows, size;
    check_rows(&in[0], &rows, &size);
    PARALLEL_ROWS
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)in[0].data + i * size;
        real *y = (real *)out[0].data + i * size;
        const real shift = safe_shift(x, size);
        real sum = 0;
        if (p[0]) { /* two subtractions: the sum of shift and log would round at shift's size */
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < size; j++) sum += vexp(y[j] = x[j] - shift);
            const real log_sum = (real)log((double)sum);
            for (int64_t j = 0; j < size; j++) y[j] -= log_sum;
        } else {
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < size; j++) sum += y[j] = vexp(x[j] - shift);
            const real inverse = 1 / sum;
            for (int64_t j = 0; j < size; j++) y[j] *= inverse;
        }
    }
    return 0;
}

/* softmax_gradient(y, g; logarithm) -> gradient of x, from the output y of softmax */
EXPORT int KERNEL(softmax_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    for (int64_t i = 0; i < in[0].ndim; i++)
        if (in[1].ndim != in[0].ndim || in[1].shape[i] != in[0].shape[i])
            REFUSE("softmax: the gradient must have the shape of the output");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(softmax_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    int64_t rows, size;
    check_rows(&in[0], &rows, &size);
    PARALLEL_ROWS
    for (int64_t i = 0; i < rows; i++) {
        const real *y = (const real *)in[0].data + i * size;
        const real *g = (const real *)in[1].data + i * size;
        real *d = (real *)out[0].data + i * size, sum = 0;
        if (p[0]) { /* g - softmax sum g */
            for (int64_t j = 0; j < size; j++) sum += g[j];
#pragma omp simd
            for (int64_t j = 0; j < size; j++) d[j] = g[j] - vexp(y[j]) * sum;
        } else { /* y (g - sum y g) */
            for (int64_t j = 0; j < size; j++) sum += y[j] * g[j];
            for (int64_t j = 0; j < size; j++) d[j] = y[j] * (g[j] - sum);
        }
    }
    return 0;
}

/* cross_entropy(logits (N, V), targets int32 (N,), smoothing ()[, mask (N,)]; has_mask)
 *   -> losses (N,), normalizers (N, 2): shift and 1 / sum, so that softmax = e^(x - shift) / sum;
 * rows that the mask excludes cost nothing and have loss 0 */
EXPORT int KERNEL(cross_entropy_shape)(SHAPE_ARGUMENTS) {
    if (in[0].ndim != 2 || in[1].ndim != 1 || in[1].shape[0] != in[0].shape[0])
        REFUSE("cross_entropy: needs logits (rows, classes) and one target a row");
    if (p[0] && (in[3].ndim != 1 || in[3].shape[0] != in[0].shape[0]))
        REFUSE("cross_entropy: the mask must have one element a row");
    SET_SHAPE(&out[0], in[0].shape[0]);
    SET_SHAPE(&out[1], in[0].shape[0], 2);
    return 0;
}

EXPORT int KERNEL(cross_entropy)(KERNEL_ARGUMENTS) {
    const int64_t rows = in[0].shape[0], size = in[0].shape[1];
    const int32_t *targets = in[1].data;
    const real smoothing = *(const real *)in[2].data, *mask = p[0] ? in[3].data : NULL;
    real *losses = out[0].data, *normalizers = out[1].data;
    for (int64_t i = 0; i < rows; i++)
        if (!(mask && mask[i] == 0) && (targets[i] < 0 || targets[i] >= size))
            REFUSE("cross_entropy: target %d of row %lld is not in [0, %lld)", (int)targets[i],
                   (long long)i, (long long)size);
    PARALLEL_ROWS
    for (int64_t i = 0; i < rows; i++) {
        losses[i] = normalizers[2 * i] = normalizers[2 * i + 1] = 0;
        if (mask && mask[i] == 0) continue;
        const real *x = (const real *)in[0].data + i * size, shift = safe_shift(x, size);
        real sum = 0, all = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < size; j++) sum += vexp(x[j] - shift);
        if (smoothing > 0)
            for (int64_t j = 0; j < size; j++) all += x[j] - shift;
        const real target = x[targets[i]] - shift;
        losses[i] = (real)log((double)sum) - (1 - smoothing) * target;
        losses[i] -= smoothing / (real)size * all;
        if (mask) losses[i] *= mask[i];
        normalizers[2 * i] = shift, normalizers[2 * i + 1] = 1 / sum;
    }
    return 0;
}

/* cross_entropy_gradient(logits, targets, smoothing, normalizers (N, 2), g (N,)[, mask]; has_mask)
 *   -> gradient of the logits (N, V) */
EXPORT int KERNEL(cross_entropy_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], 2, in[0].shape);
    return 0;
}

EXPORT int KERNEL(cross_entropy_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t rows = in[0].shape[0], size = in[0].shape[1];
    const int32_t *targets = in[1].data;
    const real smoothing = *(const real *)in[2].data, *g = in[4].data;
    const real *normalizers = in[3].data;
    const real *mask = p[0] ? in[5].data : NULL;
    const real floor = smoothing / (real)max64(size, 1);
    PARALLEL_ROWS
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)in[0].data + i * size, shift = normalizers[2 * i];
        const real scale = mask ? g[i] * mask[i] : g[i], inverse = normalizers[2 * i + 1];
        real *d = (real *)out[0].data + i * size;
        if (mask && mask[i] == 0) {
            memset(d, 0, sizeof(real) * (size_t)size);
            continue;
        }
        const int32_t target = targets[i];
#pragma omp simd
        for (int64_t j = 0; j < size; j++) d[j] = scale * (vexp(x[j] - shift) * inverse - floor);
        d[target] -= scale * (1 - smoothing);
    }
    return 0;
}
