/* Batch normalization (Ioffe and Szegedy 2015, algorithm 1) and its gradient, simplified so that
 * two passes over memory do: one for the sums, one for the result. Every thread has channels of
 * its own. x is (batch, channels, ...).
 *
 * A ReLU after it costs no pass of its own: it is applied to what is stored, and the gradient finds
 * again from x what had been stored, instead of reading it.
 */
#include "conv.h"

enum {
    STRIP = 128, /* channels of a matrix that are worked on side by side, along its rows */
    LARGE = 50000
};

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

/* What the numbers of a channel go through. */
typedef struct {
    real mean, scale, shift;
} map;

static map map_of(real mean, real variance, real gamma, real beta, real epsilon) {
    return (map){mean, gamma / (real)sqrt((double)variance + (double)epsilon), beta};
}

static inline real normalize(real x, map m) { return (x - m.mean) * m.scale + m.shift; }

/* The same of the channels of a strip: arrays, which vectors can read. */
typedef struct {
    real mean[STRIP], scale[STRIP], shift[STRIP];
} maps;

static inline map map_at(const maps *m, int64_t k) {
    return (map){m->mean[k], m->scale[k], m->shift[k]};
}

static inline void set_map(maps *m, int64_t k, map one) {
    m->mean[k] = one.mean, m->scale[k] = one.scale, m->shift[k] = one.shift;
}

/* The two ends of an activation: what is beyond is cut off. NaN stays. */
typedef struct {
    real floor, ceiling;
} ends;

static ends ends_of(int activation) {
    return (ends){activation == NO_ACTIVATION ? -(real)INFINITY : 0,
                  activation == RELU6 ? 6 : (real)INFINITY};
}

static inline real cut(real y, ends e) {
    y = y < e.floor ? e.floor : y;
    return y > e.ceiling ? e.ceiling : y;
}

/* ---- Forward -------------------------------------------------------------------------------- */

typedef struct {
    const real *x, *gamma, *beta;
    real epsilon;
    ends ends;
    real *y, *means, *variances;
} job;

/* A channel of images: planes of `size` numbers that are neighbors. */
static void normalize_planes(const layout *l, const job *q, int64_t c) {
    const ends e = q->ends;
    const double total = (double)max64(l->batch * l->size, 1);
    double sum = 0, squares = 0; /* one rounding a plane, not one an element */
    for (int64_t n = 0; n < l->batch; n++) {
        const real *plane = q->x + (n * l->channels + c) * l->size;
        real part = 0;
        for (int64_t i = 0; i < l->size; i++) part += plane[i];
        sum += part;
    }
    const real mean = (real)(sum / total);
    for (int64_t n = 0; n < l->batch; n++) {
        const real *plane = q->x + (n * l->channels + c) * l->size;
        real part = 0;
        for (int64_t i = 0; i < l->size; i++) part += (plane[i] - mean) * (plane[i] - mean);
        squares += part;
    }
    const real variance = (real)(squares / total);
    const map m = map_of(mean, variance, q->gamma[c], q->beta[c], q->epsilon);
    for (int64_t n = 0; n < l->batch; n++) {
        const real *plane = q->x + (n * l->channels + c) * l->size;
        real *target = q->y + (n * l->channels + c) * l->size;
        for (int64_t i = 0; i < l->size; i++) target[i] = cut(normalize(plane[i], m), e);
    }
    q->means[c] = mean;
    q->variances[c] = variance;
}

/* `width` columns of a matrix from `from` on, row after row. */
static void normalize_columns(const layout *l, const job *q, int64_t from, int64_t width) {
    const ends e = q->ends;
    const double total = (double)max64(l->batch, 1);
    double sums[STRIP] = {0}, squares[STRIP] = {0};
    maps m;
    for (int64_t n = 0; n < l->batch; n++) {
        const real *row = q->x + n * l->channels + from;
        for (int64_t k = 0; k < width; k++) sums[k] += (double)row[k];
    }
    for (int64_t k = 0; k < width; k++) m.mean[k] = (real)(sums[k] / total);
    for (int64_t n = 0; n < l->batch; n++) {
        const real *row = q->x + n * l->channels + from;
        for (int64_t k = 0; k < width; k++)
            squares[k] += (double)((row[k] - m.mean[k]) * (row[k] - m.mean[k]));
    }
    for (int64_t k = 0; k < width; k++) {
        const int64_t c = from + k;
        const real variance = (real)(squares[k] / total);
        set_map(&m, k, map_of(m.mean[k], variance, q->gamma[c], q->beta[c], q->epsilon));
        q->means[c] = m.mean[k];
        q->variances[c] = variance;
    }
    for (int64_t n = 0; n < l->batch; n++) {
        const real *row = q->x + n * l->channels + from;
        real *target = q->y + n * l->channels + from;
        for (int64_t k = 0; k < width; k++)
            target[k] = cut(normalize(row[k], map_at(&m, k)), e);
    }
}

/* batch_norm(x, gamma, beta, epsilon; activation) -> activation(y), mean, variance (biased) */
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
    UNUSED(error);
    const layout l = layout_of(&in[0]);
    const job q = {in[0].data, in[1].data, in[2].data, *(const real *)in[3].data,
                   ends_of((int)p[0]), out[0].data, out[1].data, out[2].data};
    const int64_t step = l.size == 1 ? STRIP : 1;
#pragma omp parallel for schedule(static) if (count(&in[0]) > LARGE)
    for (int64_t c = 0; c < l.channels; c += step)
        if (l.size == 1) normalize_columns(&l, &q, c, min64(STRIP, l.channels - c));
        else normalize_planes(&l, &q, c);
    return 0;
}

/* ---- Gradient ------------------------------------------------------------------------------- */

/* d x = gamma / s (g - (d beta + z d gamma) / N),  z = (x - mean) / s, where g is the gradient of
 * the normalized x: 0 wherever the activation cut it off. */
typedef struct {
    const real *x, *gamma, *means, *variances, *g, *beta; /* beta: NULL without an activation */
    real epsilon;
    ends ends;
    real *dx, *dgamma, *dbeta;
} gradient_job;

static inline real passed(const int activated, real x, real g, map m, ends e) {
    if (!activated) return g;
    const real y = normalize(x, m);
    return y > e.floor && y < e.ceiling ? g : 0;
}

static map forward_map(const gradient_job *q, int64_t c) {
    return map_of(q->means[c], q->variances[c], q->gamma[c], q->beta ? q->beta[c] : 0, q->epsilon);
}

/* Stores d gamma and d beta of channel c, from the sums of g and of g (x - mean), and returns the map
 * of x to what they take from g: (d beta + z d gamma) / N. */
static map finish_sums(const gradient_job *q, int64_t c, double plain, double product,
                       double total) {
    const double inverse = 1 / sqrt((double)q->variances[c] + (double)q->epsilon);
    q->dgamma[c] = (real)(product * inverse);
    q->dbeta[c] = (real)plain;
    return (map){q->means[c], (real)(product * inverse * inverse / total), (real)(plain / total)};
}

static inline __attribute__((always_inline)) void
planes_gradient(const int activated, const layout *l, const gradient_job *q, int64_t c) {
    const ends e = q->ends;
    const map forward = forward_map(q, c);
    double plain = 0, product = 0;
    for (int64_t n = 0; n < l->batch; n++) {
        const real *x = q->x + (n * l->channels + c) * l->size;
        const real *g = q->g + (n * l->channels + c) * l->size;
        real part = 0, part_product = 0;
        for (int64_t i = 0; i < l->size; i++) {
            const real left = passed(activated, x[i], g[i], forward, e);
            part += left;
            part_product += left * (x[i] - forward.mean);
        }
        plain += part;
        product += part_product;
    }
    const map taken = finish_sums(q, c, plain, product, (double)max64(l->batch * l->size, 1));
    for (int64_t n = 0; n < l->batch; n++) {
        const int64_t start = (n * l->channels + c) * l->size;
        const real *x = q->x + start, *g = q->g + start;
        real *dx = q->dx + start;
#pragma GCC ivdep /* dx may be g itself, number by number */
        for (int64_t i = 0; i < l->size; i++)
            dx[i] = forward.scale * (passed(activated, x[i], g[i], forward, e) -
                                     normalize(x[i], taken));
    }
}

static inline __attribute__((always_inline)) void
columns_gradient(const int activated, const layout *l, const gradient_job *q, int64_t from,
                 int64_t width) {
    const ends e = q->ends;
    maps forward, taken;
    double plain[STRIP] = {0}, product[STRIP] = {0};
    for (int64_t k = 0; k < width; k++) set_map(&forward, k, forward_map(q, from + k));
    for (int64_t n = 0; n < l->batch; n++) {
        const real *x = q->x + n * l->channels + from, *g = q->g + n * l->channels + from;
        for (int64_t k = 0; k < width; k++) {
            const real left = passed(activated, x[k], g[k], map_at(&forward, k), e);
            plain[k] += (double)left;
            product[k] += (double)(left * (x[k] - forward.mean[k]));
        }
    }
    for (int64_t k = 0; k < width; k++)
        set_map(&taken, k, finish_sums(q, from + k, plain[k], product[k], (double)max64(l->batch, 1)));
    for (int64_t n = 0; n < l->batch; n++) {
        const int64_t start = n * l->channels + from;
        const real *x = q->x + start, *g = q->g + start;
        real *dx = q->dx + start;
#pragma GCC ivdep
        for (int64_t k = 0; k < width; k++)
            dx[k] = forward.scale[k] * (passed(activated, x[k], g[k], map_at(&forward, k), e) -
                                        normalize(x[k], map_at(&taken, k)));
    }
}

/* batch_norm_gradient(x, gamma, mean, variance, g, epsilon[, beta]; activation)
 *   -> d x, d gamma, d beta; beta where there is an activation. d x may lie where g does. */
EXPORT int KERNEL(batch_norm_gradient_shape)(SHAPE_ARGUMENTS) {
    if (in[0].ndim < 2) REFUSE("batch norm: needs an axis of channels");
    if (!same_shape(&in[0], &in[4])) REFUSE("batch norm: the gradient must have the output's shape");
    for (int64_t i = 1; i < 4; i++)
        if (!per_channel(&in[0], &in[i]))
            REFUSE("batch norm: scale and statistics must have a number for each channel");
    if (p[0] != NO_ACTIVATION && !per_channel(&in[0], &in[6]))
        REFUSE("batch norm: the shift must have a number for each channel");
    set_shape(&out[0], in[0].ndim, in[0].shape);
    SET_SHAPE(&out[1], in[0].shape[1]);
    SET_SHAPE(&out[2], in[0].shape[1]);
    return 0;
}

EXPORT int KERNEL(batch_norm_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const layout l = layout_of(&in[0]);
    const int activated = p[0] != NO_ACTIVATION;
    const gradient_job q = {
        in[0].data, in[1].data, in[2].data, in[3].data, in[4].data, activated ? in[6].data : NULL,
        *(const real *)in[5].data, ends_of((int)p[0]), out[0].data, out[1].data, out[2].data};
    const int64_t step = l.size == 1 ? STRIP : 1;
#pragma omp parallel for schedule(static) if (count(&in[0]) > LARGE)
    for (int64_t c = 0; c < l.channels; c += step) {
        const int64_t width = min64(STRIP, l.channels - c);
        if (l.size == 1)
            if (activated) columns_gradient(1, &l, &q, c, width);
            else columns_gradient(0, &l, &q, c, width);
        else if (activated) planes_gradient(1, &l, &q, c);
        else planes_gradient(0, &l, &q, c);
    }
    return 0;
}
