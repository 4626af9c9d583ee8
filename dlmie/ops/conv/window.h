/* Depthwise filters over a band of rows that stands in the cache, one channel in each lane.
 *
 * LANES channels of the rows that a band of outputs reads lie in an area with zeros around them:
 *
 *   out[oy, ox] = sum over taps (i, j) of
 *       w[i, j] * area[oy step_h + i dilation_h, ox step_w + j dilation_w]
 *
 * A tap of a filter is then one product of two vectors, whatever the width, stride or dilation.
 */
#ifndef DLMIE_WINDOW_H
#define DLMIE_WINDOW_H

#include "conv.h"
#include "vectors.h"

enum { AREA_BYTES = 1 << 18, MOST_PIXELS = 14 /* summed in registers at a time */ };

/* Call `function` with a constant number of pixels, from n: 1 to `most`, itself a constant. */
#define PIXEL_CASE(i, most, function, ...)                                                        \
    case i: if ((i) <= (most)) function(i, __VA_ARGS__); break;
#define FOR_PIXELS(n, most, function, ...)                                                        \
    switch (n) {                                                                                  \
    PIXEL_CASE(1, most, function, __VA_ARGS__) PIXEL_CASE(2, most, function, __VA_ARGS__)         \
    PIXEL_CASE(3, most, function, __VA_ARGS__) PIXEL_CASE(4, most, function, __VA_ARGS__)         \
    PIXEL_CASE(5, most, function, __VA_ARGS__) PIXEL_CASE(6, most, function, __VA_ARGS__)         \
    PIXEL_CASE(7, most, function, __VA_ARGS__) PIXEL_CASE(8, most, function, __VA_ARGS__)         \
    PIXEL_CASE(9, most, function, __VA_ARGS__) PIXEL_CASE(10, most, function, __VA_ARGS__)        \
    PIXEL_CASE(11, most, function, __VA_ARGS__) PIXEL_CASE(12, most, function, __VA_ARGS__)       \
    PIXEL_CASE(13, most, function, __VA_ARGS__) PIXEL_CASE(14, most, function, __VA_ARGS__)       \
    }

/* Which outputs read what.  Pixel (y, x) of an image stands in the area at row top + y spread_h and
 * column left + x spread_w; the first tap of output (0, 0) reads at row `skip_h`, column `skip_w`. */
typedef struct {
    int64_t height, width, spread_h, spread_w, top, left;
    int64_t out_h, out_w, step_h, step_w, skip_h, skip_w;
    int64_t kernel_h, kernel_w, dilation_h, dilation_w, taps;
    int64_t pitch, rows; /* of the area */
    int64_t band, bands; /* rows of outputs at a time */
    int64_t area, out;   /* elements; `out` with room to read beyond */
} window;

/* Bands whose areas have at most `bytes` bytes, where one row of outputs needs no more. */
static window finish_window(window q, int64_t bytes) {
    q.taps = q.kernel_h * q.kernel_w;
    const int64_t reach_h = (q.kernel_h - 1) * q.dilation_h + 1;
    const int64_t reach_w = (q.kernel_w - 1) * q.dilation_w + 1;
    const int64_t read = q.skip_w + (q.out_w - 1) * q.step_w + reach_w;
    q.pitch = max64(max64(q.left + (q.width - 1) * q.spread_w + 1, read), 1); /* of no pixels, too */
    const int64_t fit = bytes / (q.pitch * LANES * (int64_t)sizeof(real));
    const int64_t most = max64(min64((fit - reach_h) / q.step_h + 1, q.out_h), 1);
    q.bands = (q.out_h + most - 1) / most;
    q.band = q.bands ? (q.out_h + q.bands - 1) / q.bands : 1;
    q.rows = (q.band - 1) * q.step_h + reach_h;
    q.area = q.rows * q.pitch * LANES;
    q.out = (q.band * q.out_w + LANES) * LANES;
    return q;
}

static window forward_window(const conv_geometry *s, int64_t bytes) {
    return finish_window((window){
        .height = s->height, .width = s->width, .spread_h = 1, .spread_w = 1,
        .top = s->pad_top, .left = s->pad_left, .out_h = s->out_h, .out_w = s->out_w,
        .step_h = s->stride_h, .step_w = s->stride_w, .kernel_h = s->kernel_h,
        .kernel_w = s->kernel_w, .dilation_h = s->dilation_h, .dilation_w = s->dilation_w}, bytes);
}

/* Of the gradient with respect to the input of a convolution: outputs, and their gradient, change
 * places. */
static window gradient_window(const conv_geometry *s, int64_t bytes) {
    const int64_t before_h = (s->kernel_h - 1) * s->dilation_h - s->pad_top;
    const int64_t before_w = (s->kernel_w - 1) * s->dilation_w - s->pad_left;
    return finish_window((window){
        .height = s->out_h, .width = s->out_w, .spread_h = s->stride_h, .spread_w = s->stride_w,
        .top = max64(before_h, 0), .left = max64(before_w, 0),
        .skip_h = max64(-before_h, 0), .skip_w = max64(-before_w, 0),
        .out_h = s->height, .out_w = s->width, .step_h = 1, .step_w = 1, .kernel_h = s->kernel_h,
        .kernel_w = s->kernel_w, .dilation_h = s->dilation_h, .dilation_w = s->dilation_w}, bytes);
}

/* What happens to a sum before it is stored. */
typedef struct {
    vec start, floor, ceiling;
} ending;

/* `pixels` neighboring outputs at out, = or += their sums over the area from `corner` on. */
static inline __attribute__((always_inline)) void
correlate_tile(const int pixels, const int64_t step, const window *q, const real *corner,
               const real *weights, const ending *end, int accumulate, real *out) {
    vec sums[MOST_PIXELS];
#pragma GCC unroll 16
    for (int b = 0; b < pixels; b++) sums[b] = accumulate ? load(out + b * LANES) : end->start;
    for (int64_t i = 0; i < q->kernel_h; i++) {
        const real *source = corner + i * q->dilation_h * q->pitch * LANES;
        for (int64_t j = 0; j < q->kernel_w; j++) {
            const vec weight = load(weights);
#pragma GCC unroll 16
            for (int b = 0; b < pixels; b++) sums[b] += weight * load(source + b * step * LANES);
            weights += LANES, source += q->dilation_w * LANES;
        }
    }
#pragma GCC unroll 16
    for (int b = 0; b < pixels; b++) {
        const vec v = choose(sums[b] < end->floor, end->floor, sums[b]); /* NaN stays */
        store(out + b * LANES, choose(v > end->ceiling, end->ceiling, v));
    }
}

/* `rows` rows of outputs, one after the other at out, in tiles of nearly equal width. */
static inline __attribute__((always_inline)) void
correlate_rows(const int64_t step, const int most, const window *q, const real *area,
               const real *weights, const ending *end, int accumulate, int64_t rows, real *out) {
    const int64_t tiles = (q->out_w + most - 1) / most;
    for (int64_t r = 0; r < rows; r++, out += q->out_w * LANES) {
        const real *row = area + (r * q->step_h * q->pitch + q->skip_w) * LANES;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t x = t * q->out_w / tiles, n = (t + 1) * q->out_w / tiles - x;
            FOR_PIXELS(n, most, correlate_tile, step, q, row + x * step * LANES, weights, end,
                       accumulate, out + x * LANES)
        }
    }
}

static void correlate(const window *q, const real *area, const real *weights, ending end,
                      int accumulate, int64_t rows, real *out) {
    if (q->step_w == 1)
        correlate_rows(1, MOST_PIXELS, q, area, weights, &end, accumulate, rows, out);
    else if (q->step_w == 2)
        correlate_rows(2, MOST_PIXELS, q, area, weights, &end, accumulate, rows, out);
    else correlate_rows(q->step_w, 4, q, area, weights, &end, accumulate, rows, out);
}

static ending make_ending(int activation) {
    return (ending){broadcast(0), broadcast(activation == NO_ACTIVATION ? -INFINITY : 0),
                    broadcast(activation == RELU6 ? 6 : INFINITY)};
}

#endif
