/* Max and average pooling of (batch, channels, height, width), each plane for itself.
 *
 * p = {size_h, size_w, stride_h, stride_w, pad_h, pad_w, ceil_mode, count_include_padding}.
 * A size of 0 means the whole plane (global pooling).  With ceil_mode a last window may hang over
 * the padded edge, provided that it starts inside the image or the padding before it.
 */
#include "conv.h"
#include "vectors.h"

enum { WORTH_WAKING = 200000 }; /* additions: less is done before another thread is awake */

typedef struct {
    int64_t planes, height, width, out_h, out_w;
    int64_t size_h, size_w, stride_h, stride_w, pad_h, pad_w;
    int count_padding;
} pool_geometry;

static int64_t pooled_size(int64_t size, int64_t window, int64_t stride, int64_t padding,
                           int ceil_mode) {
    const int64_t room = size + 2 * padding - window;
    if (room < 0) return ceil_mode && room > -stride && size > 0 ? 1 : -1;
    int64_t out = room / stride + 1;
    if (ceil_mode && room % stride && out * stride < size + padding) out++;
    return out;
}

static int geometry(const tensor *x, const int64_t *p, pool_geometry *s, char *error) {
    if (x->ndim != 4) REFUSE("pooling: the input must have 4 dimensions, not %d", (int)x->ndim);
    *s = (pool_geometry){
        .planes = x->shape[0] * x->shape[1], .height = x->shape[2], .width = x->shape[3],
        .size_h = p[0] ? p[0] : x->shape[2], .size_w = p[1] ? p[1] : x->shape[3],
        .stride_h = p[2], .stride_w = p[3], .pad_h = p[4], .pad_w = p[5],
        .count_padding = p[7] != 0};
    s->out_h = pooled_size(s->height, s->size_h, s->stride_h, s->pad_h, p[6] != 0);
    s->out_w = pooled_size(s->width, s->size_w, s->stride_w, s->pad_w, p[6] != 0);
    if (s->out_h < 1 || s->out_w < 1 || s->height < 1 || s->width < 1)
        REFUSE("pooling: a %lldx%lld window does not fit an input of %lldx%lld",
               (long long)s->size_h, (long long)s->size_w, (long long)s->height,
               (long long)s->width);
    return 0;
}

static int check_output_like(const pool_geometry *s, const tensor *x, const tensor *g,
                             char *error) {
    if (g->ndim != 4 || g->shape[0] != x->shape[0] || g->shape[1] != x->shape[1] ||
        g->shape[2] != s->out_h || g->shape[3] != s->out_w)
        REFUSE("pooling: the gradient must have the shape of the output");
    return 0;
}

/* The part of a window that lies inside the image: rows [top, bottom), columns [left, right). */
typedef struct {
    int64_t top, bottom, left, right;
} window;

static window window_at(const pool_geometry *s, int64_t oy, int64_t ox) {
    const int64_t y = oy * s->stride_h - s->pad_h, x = ox * s->stride_w - s->pad_w;
    return (window){max64(y, 0), min64(y + s->size_h, s->height), max64(x, 0),
                    min64(x + s->size_w, s->width)};
}

/* Whether b beats a that stands before it: only if larger, or the first NaN. */
static inline int beats(real b, real a) { return (b > a) | ((b != b) & (a == a)); }

/* Index of the first maximum of a window (a NaN counts as one); the window is not empty. */
static int64_t first_maximum(const pool_geometry *s, const real *plane, window v) {
    int64_t best = v.top * s->width + v.left;
    for (int64_t y = v.top; y < v.bottom; y++)
        for (int64_t x = v.left; x < v.right; x++) {
            const int64_t index = y * s->width + x;
            if (beats(plane[index], plane[best])) best = index;
        }
    return best;
}

/* The usual case: 2x2 windows side by side, LANES of them at once. */
static int is_halving(const pool_geometry *s) {
    return s->size_h == 2 && s->size_w == 2 && s->stride_h == 2 && s->stride_w == 2 &&
           s->pad_h == 0 && s->pad_w == 0 && s->height >= 2 * s->out_h && s->width >= 2 * s->out_w;
}

/* Where the windows that are LANES from `next` on begin: the last ones overlap. */
static inline int64_t windows_from(int64_t next, int64_t out_w) {
    return min64(next, max64(out_w - LANES, 0));
}

#define EVENS(d, i) (2 * (i) + (d))
#define ZIP(d, i) ((d) * LANES / 2 + (i) / 2 + (i) % 2 * LANES)

/* Columns 0, 2, ... and 1, 3, ... of n <= LANES windows in a row of x, which ends at `end`. */
static inline void read_windows(const real *x, int64_t n, const real *end, vec *even, vec *odd) {
    vec part[2] = {{0}, {0}};
    if (end - x >= 2 * LANES) part[0] = load(x), part[1] = load(x + LANES);
    else memcpy(part, x, (size_t)(2 * n) * sizeof(real));
    *even = SHUFFLE(part[0], part[1], EACH_LANE(EVENS, 0));
    *odd = SHUFFLE(part[0], part[1], EACH_LANE(EVENS, 1));
}

static inline void write_windows(vec even, vec odd, int64_t n, real *x) {
    const vec part[2] = {SHUFFLE(even, odd, EACH_LANE(ZIP, 0)), SHUFFLE(even, odd, EACH_LANE(ZIP, 1))};
    if (n == LANES) store(x, part[0]), store(x + LANES, part[1]);
    else memcpy(x, part, (size_t)(2 * n) * sizeof(real));
}

static inline index_vec beats_each(vec b, vec a) { return (b > a) | ((b != b) & (a == a)); }

/* Maxima of the two rows of n windows, and which column has them. */
static inline vec row_maxima(const real *x, int64_t n, const real *end, index_vec *right) {
    vec even, odd;
    read_windows(x, n, end, &even, &odd);
    *right = beats_each(odd, even);
    return choose(*right, odd, even);
}

static void halve_plane(const pool_geometry *s, const real *x, const real *end, real *y) {
    const int64_t n = min64(LANES, s->out_w);
    for (int64_t oy = 0; oy < s->out_h; oy++, y += s->out_w)
        for (int64_t next = 0; next < s->out_w; next += LANES) {
            const int64_t ox = windows_from(next, s->out_w);
            const real *row = x + 2 * oy * s->width + 2 * ox;
            index_vec right;
            const vec upper = row_maxima(row, n, end, &right);
            const vec lower = row_maxima(row + s->width, n, end, &right);
            const vec largest = choose(beats_each(lower, upper), lower, upper);
            if (n == LANES) store(y + ox, largest);
            else memcpy(y, &largest, (size_t)n * sizeof(real));
        }
}

static void halve_plane_gradient(const pool_geometry *s, const real *x, const real *end,
                                 const real *g, real *dx) {
    const int64_t n = min64(LANES, s->out_w);
    for (int64_t oy = 0; oy < s->out_h; oy++, g += s->out_w)
        for (int64_t next = 0; next < s->out_w; next += LANES) {
            const int64_t ox = windows_from(next, s->out_w), at = 2 * oy * s->width + 2 * ox;
            vec given = {0}, winner[2];
            index_vec right[2];
            if (n == LANES) given = load(g + ox);
            else memcpy(&given, g, (size_t)n * sizeof(real));
            for (int i = 0; i < 2; i++)
                winner[i] = row_maxima(x + at + i * s->width, n, end, &right[i]);
            const index_vec lower = beats_each(winner[1], winner[0]);
            for (int i = 0; i < 2; i++) {
                const vec mine = choose(i ? lower : ~lower, given, (vec){0});
                write_windows(choose(right[i], (vec){0}, mine), choose(right[i], mine, (vec){0}), n,
                              dx + at + i * s->width);
            }
        }
}

/* max_pool(x) -> y */
EXPORT int KERNEL(max_pool_shape)(SHAPE_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
    SET_SHAPE(&out[0], in[0].shape[0], in[0].shape[1], s.out_h, s.out_w);
    return 0;
}

/* y[o] = the larger of y[o] and x[o * stride], NaN winning. */
static inline __attribute__((always_inline)) void raise(real *y, const real *x, int64_t first,
                                                        int64_t last, const int64_t stride) {
    for (int64_t o = first; o < last; o++) {
        const real v = x[o * stride];
        y[o] = v > y[o] || v != v ? v : y[o];
    }
}

EXPORT int KERNEL(max_pool)(KERNEL_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
    const int halving = is_halving(&s);
    const real *end = (const real *)in[0].data + count(&in[0]);
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.planes; k++) {
        const real *plane = (const real *)in[0].data + k * s.height * s.width;
        if (halving) {
            halve_plane(&s, plane, end, (real *)out[0].data + k * s.out_h * s.out_w);
            continue;
        }
        for (int64_t oy = 0; oy < s.out_h; oy++) {
            const window rows = window_at(&s, oy, 0);
            real *y = (real *)out[0].data + (k * s.out_h + oy) * s.out_w;
            for (int64_t ox = 0; ox < s.out_w; ox++) y[ox] = -(real)INFINITY;
            for (int64_t r = rows.top; r < rows.bottom; r++)
                for (int64_t j = 0; j < s.size_w; j++) {
                    const real *x = plane + r * s.width + j - s.pad_w;
                    int64_t from, to;
                    valid_range(s.out_w, s.stride_w, j - s.pad_w, s.width, &from, &to);
                    if (s.stride_w == 1) raise(y, x, from, to, 1);
                    else if (s.stride_w == 2) raise(y, x, from, to, 2);
                    else raise(y, x, from, to, s.stride_w);
                }
        }
    }
    return 0;
}

/* max_pool_gradient(x, g) -> gradient with respect to x: g goes to the first maximum. */
EXPORT int KERNEL(max_pool_gradient_shape)(SHAPE_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error) || check_output_like(&s, &in[0], &in[1], error)) return 1;
    set_shape(&out[0], 4, in[0].shape);
    return 0;
}

EXPORT int KERNEL(max_pool_gradient)(KERNEL_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
    const int halving = is_halving(&s);
    const int covered = halving && s.height == 2 * s.out_h && s.width == 2 * s.out_w;
    const real *end = (const real *)in[0].data + count(&in[0]);
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.planes; k++) {
        const real *plane = (const real *)in[0].data + k * s.height * s.width;
        const real *g = (const real *)in[1].data + k * s.out_h * s.out_w;
        real *dx = (real *)out[0].data + k * s.height * s.width;
        if (!covered) memset(dx, 0, (size_t)(s.height * s.width) * sizeof(real));
        if (halving) {
            halve_plane_gradient(&s, plane, end, g, dx);
            continue;
        }
        for (int64_t oy = 0; oy < s.out_h; oy++)
            for (int64_t ox = 0; ox < s.out_w; ox++)
                dx[first_maximum(&s, plane, window_at(&s, oy, ox))] += *g++;
    }
    return 0;
}

/* max_pool_pick(x, c) -> c where x has its first maximum in each window: the transpose of the
 * gradient, which second derivatives need. */
EXPORT int KERNEL(max_pool_pick_shape)(SHAPE_ARGUMENTS) {
    for (int i = 0; i < 4; i++)
        if (in[1].ndim != 4 || in[0].ndim != 4 || in[1].shape[i] != in[0].shape[i])
            REFUSE("pooling: both inputs must have one shape");
    return KERNEL(max_pool_shape)(in, out, p, error);
}

EXPORT int KERNEL(max_pool_pick)(KERNEL_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.planes; k++) {
        const real *plane = (const real *)in[0].data + k * s.height * s.width;
        const real *c = (const real *)in[1].data + k * s.height * s.width;
        real *y = (real *)out[0].data + k * s.out_h * s.out_w;
        for (int64_t oy = 0; oy < s.out_h; oy++)
            for (int64_t ox = 0; ox < s.out_w; ox++)
                *y++ = c[first_maximum(&s, plane, window_at(&s, oy, ox))];
    }
    return 0;
}

/* What an average is divided by: the pixels of the window that are there, or with its padding
 * (but never what hangs over the padded edge). */
static real divisor(const pool_geometry *s, int64_t oy, int64_t ox, window v) {
    if (!s->count_padding) return (real)((v.bottom - v.top) * (v.right - v.left));
    const int64_t y = oy * s->stride_h - s->pad_h, x = ox * s->stride_w - s->pad_w;
    return (real)((min64(y + s->size_h, s->height + s->pad_h) - y) *
                  (min64(x + s->size_w, s->width + s->pad_w) - x));
}

/* average_pool(x) -> y */
EXPORT int KERNEL(average_pool_shape)(SHAPE_ARGUMENTS) {
    return KERNEL(max_pool_shape)(in, out, p, error);
}

EXPORT int KERNEL(average_pool)(KERNEL_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
    const int64_t sums = s.planes * s.out_h * s.out_w * s.size_h * s.size_w;
#pragma omp parallel for schedule(static) if (sums > WORTH_WAKING)
    for (int64_t k = 0; k < s.planes; k++) {
        const real *plane = (const real *)in[0].data + k * s.height * s.width;
        real *y = (real *)out[0].data + k * s.out_h * s.out_w;
        for (int64_t oy = 0; oy < s.out_h; oy++)
            for (int64_t ox = 0; ox < s.out_w; ox++) {
                const window v = window_at(&s, oy, ox);
                real sum = 0;
                if (v.right - v.left == s.width) { /* whole rows are one run */
                    for (int64_t i = v.top * s.width; i < v.bottom * s.width; i++) sum += plane[i];
                } else {
                    for (int64_t r = v.top; r < v.bottom; r++)
                        for (int64_t c = v.left; c < v.right; c++) sum += plane[r * s.width + c];
                }
                *y++ = sum / divisor(&s, oy, ox, v);
            }
    }
    return 0;
}

/* average_pool_gradient(x for its shape, g) -> gradient with respect to x */
EXPORT int KERNEL(average_pool_gradient_shape)(SHAPE_ARGUMENTS) {
    return KERNEL(max_pool_gradient_shape)(in, out, p, error);
}

EXPORT int KERNEL(average_pool_gradient)(KERNEL_ARGUMENTS) {
    pool_geometry s;
    if (geometry(&in[0], p, &s, error)) return 1;
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < s.planes; k++) {
        const real *g = (const real *)in[1].data + k * s.out_h * s.out_w;
        real *dx = (real *)out[0].data + k * s.height * s.width;
        memset(dx, 0, (size_t)(s.height * s.width) * sizeof(real));
        for (int64_t oy = 0; oy < s.out_h; oy++)
            for (int64_t ox = 0; ox < s.out_w; ox++) {
                const window v = window_at(&s, oy, ox);
                const real share = *g++ / divisor(&s, oy, ox, v);
                for (int64_t r = v.top; r < v.bottom; r++)
                    for (int64_t c = v.left; c < v.right; c++) dx[r * s.width + c] += share;
            }
    }
    return 0;
}
