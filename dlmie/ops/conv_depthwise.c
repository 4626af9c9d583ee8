/* Depthwise convolution: each filter sees one channel, so that there is no matrix product in it.
 * F. Chollet, "Xception: deep learning with depthwise separable convolutions" (2017).
 *
 * Each image plane is first copied to a small working area, padded with zeros and split by the
 * remainders of row and column modulo the stride.  There, with one pitch for all rows, output pixel
 * (oy, ox) stands at o = oy * pitch + ox, and every filter tap reads at a fixed offset from o: the
 * whole plane is one long loop without borders or strides, over full vectors for any image width.
 * The few numbers computed between the rows are thrown away.  The gradients use the same layout:
 *
 *   y[o] = sum over taps of w[tap] * x[o + offset[tap]]
 *   dx of one remainder [q] = sum over its taps of w[tap] * g[q - offset[tap]]
 *   dw[tap] = sum over o of g[o] * x[o + offset[tap]]
 */
#include "conv.h"
#include "vectors.h"

enum { UNROLL = 4, BLOCK = UNROLL * LANES };

typedef struct {
    conv_geometry s;
    int64_t multiplier, taps;
    int64_t rows, pitch, plane; /* of the pixels of one remainder, in the working area */
    int64_t outputs;            /* last output + 1, up to whole blocks */
    int64_t margin, area;       /* zeros before and after; size of the working area */
    int64_t out_area;           /* ... for a plane of outputs */
} layout;

/* Where a tap finds the input of output 0, and of which remainder that is. */
static inline int64_t tap_offset(const layout *q, int64_t tap) {
    const conv_geometry *s = &q->s;
    const int64_t y = tap / s->kernel_w * s->dilation_h, x = tap % s->kernel_w * s->dilation_w;
    return (y % s->stride_h * s->stride_w + x % s->stride_w) * q->plane +
           y / s->stride_h * q->pitch + x / s->stride_w;
}

static layout make_layout(const conv_geometry *s) {
    layout q = {.s = *s};
    q.multiplier = s->filters / s->channels;
    q.taps = s->kernel_h * s->kernel_w;
    const int64_t reach_h = (s->kernel_h - 1) * s->dilation_h;
    const int64_t reach_w = (s->kernel_w - 1) * s->dilation_w;
    q.rows = s->out_h + reach_h / s->stride_h;
    q.pitch = s->out_w + reach_w / s->stride_w;
    q.plane = round_up(q.rows * q.pitch, BLOCK);
    q.outputs = round_up((s->out_h - 1) * q.pitch + s->out_w, BLOCK);
    q.margin = reach_h / s->stride_h * q.pitch + reach_w / s->stride_w + BLOCK;
    q.area = s->stride_h * s->stride_w * q.plane + 2 * q.margin;
    q.out_area = q.plane + 2 * q.margin;
    return q;
}

/* The part of one row of the input that has remainder `phase`: first input column, first column of
 * the working area, and how many. */
typedef struct {
    int64_t source, target, size;
} part;

static part row_part(const layout *q, int64_t phase) {
    const int64_t stride = q->s.stride_w, pad = q->s.pad_left;
    part r;
    r.target = pad <= phase ? 0 : (pad - phase + stride - 1) / stride; /* t stride + phase >= pad */
    r.source = r.target * stride + phase - pad;
    const int64_t available = (q->s.width - r.source + stride - 1) / stride;
    r.size = max64(min64(available, q->pitch - r.target), 0);
    return r;
}

/* For every row of the input that is used: its row in the working area. */
static inline int64_t area_row(const layout *q, int64_t y) {
    const int64_t padded = y + q->s.pad_top, row = padded / q->s.stride_h;
    if (row >= q->rows) return -1;
    return padded % q->s.stride_h * q->s.stride_w * q->plane + row * q->pitch;
}

static void copy_in(const layout *q, const real *x, real *area) {
    const int64_t stride = q->s.stride_w;
    for (int64_t phase = 0; phase < stride; phase++) {
        const part r = row_part(q, phase);
        for (int64_t y = 0; y < q->s.height; y++) {
            const int64_t row = area_row(q, y);
            if (row < 0) continue;
            const real *source = x + y * q->s.width + r.source;
            real *target = area + phase * q->plane + row + r.target;
            if (stride == 1) memcpy(target, source, (size_t)r.size * sizeof(real));
            else if (stride == 2)
                for (int64_t i = 0; i < r.size; i++) target[i] = source[2 * i];
            else
                for (int64_t i = 0; i < r.size; i++) target[i] = source[i * stride];
        }
    }
}

/* The inverse; pixels that no output saw are zero. */
static void copy_back(const layout *q, const real *area, real *x) {
    const int64_t stride = q->s.stride_w;
    memset(x, 0, (size_t)(q->s.height * q->s.width) * sizeof(real));
    for (int64_t phase = 0; phase < stride; phase++) {
        const part r = row_part(q, phase);
        for (int64_t y = 0; y < q->s.height; y++) {
            const int64_t row = area_row(q, y);
            if (row < 0) continue;
            const real *source = area + phase * q->plane + row + r.target;
            real *target = x + y * q->s.width + r.source;
            for (int64_t i = 0; i < r.size; i++) target[i * stride] = source[i];
        }
    }
}

/* Rows of outputs, out_w wide, from or to rows of the working area, `pitch` apart. */
static void copy_rows(int64_t rows, int64_t width, const real *source, int64_t from_pitch,
                      real *target, int64_t to_pitch) {
    for (int64_t y = 0; y < rows; y++)
        memcpy(target + y * to_pitch, source + y * from_pitch, (size_t)width * sizeof(real));
}

/* out[i] = or += start + sum over taps of weights[t] * in[i + offsets[t]], limited. */
static void correlate(int64_t taps, const int64_t *offsets, const real *weights, const real *in,
                      real start, vec floor, vec ceiling, int accumulate, int64_t size, real *out) {
    for (int64_t i = 0; i < size; i += BLOCK) {
        vec sums[UNROLL];
        for (int j = 0; j < UNROLL; j++)
            sums[j] = accumulate ? load(out + i + j * LANES) : broadcast(start);
        for (int64_t t = 0; t < taps; t++) {
            const vec weight = broadcast(weights[t]);
            const real *source = in + i + offsets[t];
            for (int j = 0; j < UNROLL; j++) sums[j] += weight * load(source + j * LANES);
        }
        for (int j = 0; j < UNROLL; j++) {
            const vec v = choose(sums[j] < floor, floor, sums[j]); /* NaN stays */
            store(out + i + j * LANES, choose(v > ceiling, ceiling, v));
        }
    }
}

/* The taps in the order of the remainders that they read, and where they read. */
typedef struct {
    int64_t taps, *tap, *offset; /* in the working area */
} tap_list;

static int64_t tap_list_size(int64_t taps) {
    return round_up(2 * taps * (int64_t)sizeof(int64_t), VECTOR_BYTES) / (int64_t)sizeof(real);
}

static tap_list list_taps(const layout *q, real *memory) {
    tap_list list = {0, (int64_t *)memory, (int64_t *)memory + q->taps};
    for (int64_t phase = 0; phase < q->s.stride_h * q->s.stride_w; phase++)
        for (int64_t t = 0; t < q->taps; t++)
            if (tap_offset(q, t) / q->plane == phase) {
                list.tap[list.taps] = t;
                list.offset[list.taps++] = tap_offset(q, t);
            }
    return list;
}

int KERNEL(conv_depthwise_forward)(const conv_geometry *s, const real *x, const real *w,
                                   const real *bias, int activation, real *y) {
    const layout q = make_layout(s);
    const int64_t plane = s->height * s->width, pixels = s->out_h * s->out_w;
    const vec floor = broadcast(activation == NO_ACTIVATION ? -INFINITY : 0);
    const vec ceiling = broadcast(activation == RELU6 ? 6 : INFINITY);
    const int64_t own = q.area + q.out_area + round_up(q.taps, LANES), list = tap_list_size(q.taps);
    scratch memory = take_scratch(list + own * thread_count());
    if (!memory.data) return 1;
    const tap_list taps = list_taps(&q, memory.data);
#pragma omp parallel
    {
        real *in = memory.data + list + own * thread_number(), *out = in + q.area;
        real *weights = out + q.out_area;
        memset(in, 0, (size_t)own * sizeof(real));
#pragma omp for schedule(dynamic, 4)
        for (int64_t k = 0; k < s->batch * s->channels; k++) {
            copy_in(&q, x + k * plane, in);
            for (int64_t m = 0; m < q.multiplier; m++) {
                const int64_t f = k % s->channels * q.multiplier + m;
                for (int64_t t = 0; t < q.taps; t++) weights[t] = w[f * q.taps + taps.tap[t]];
                correlate(q.taps, taps.offset, weights, in, bias ? bias[f] : 0, floor, ceiling, 0,
                          q.outputs, out);
                copy_rows(s->out_h, s->out_w, out, q.pitch, y + (k * q.multiplier + m) * pixels,
                          s->out_w);
            }
        }
    }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_depthwise_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                          real *dx) {
    const layout q = make_layout(s);
    const int64_t plane = s->height * s->width, pixels = s->out_h * s->out_w;
    const vec floor = broadcast(-INFINITY), ceiling = broadcast(INFINITY);
    const int64_t own = q.area + q.out_area + round_up(q.taps, LANES), list = tap_list_size(q.taps);
    scratch memory = take_scratch(list + own * thread_count());
    if (!memory.data) return 1;
    tap_list taps = list_taps(&q, memory.data);
    for (int64_t t = 0; t < q.taps; t++) taps.offset[t] *= -1;
#pragma omp parallel
    {
        real *area = memory.data + list + own * thread_number();
        real *gradient = area + q.area + q.margin; /* with zeros on both sides */
        real *weights = area + q.area + q.out_area;
        memset(area, 0, (size_t)own * sizeof(real));
#pragma omp for schedule(dynamic, 4)
        for (int64_t k = 0; k < s->batch * s->channels; k++) {
            for (int64_t m = 0; m < q.multiplier; m++) {
                const real *filter = w + (k % s->channels * q.multiplier + m) * q.taps;
                for (int64_t t = 0; t < q.taps; t++) weights[t] = filter[taps.tap[t]];
                copy_rows(s->out_h, s->out_w, g + (k * q.multiplier + m) * pixels, s->out_w,
                          gradient, q.pitch);
                int64_t first = 0; /* tap of this remainder */
                for (int64_t phase = 0; phase < s->stride_h * s->stride_w; phase++) {
                    int64_t last = first;
                    while (last < q.taps && -taps.offset[last] < (phase + 1) * q.plane) last++;
                    correlate(last - first, taps.offset + first, weights + first,
                              gradient + phase * q.plane, 0, floor, ceiling, m > 0, q.plane,
                              area + phase * q.plane);
                    first = last;
                }
            }
            copy_back(&q, area, dx + k * plane);
        }
    }
    give_scratch(memory);
    return 0;
}

static real dot(const real *a, const real *b, int64_t size) {
    vec sums[UNROLL] = {{0}};
    for (int64_t i = 0; i < size; i += BLOCK)
        for (int j = 0; j < UNROLL; j++)
            sums[j] += load(a + i + j * LANES) * load(b + i + j * LANES);
    const vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    real total = 0;
    for (int l = 0; l < LANES; l++) total += sum[l];
    return total;
}

int KERNEL(conv_depthwise_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                           real *dw) {
    const layout q = make_layout(s);
    const int64_t plane = s->height * s->width, pixels = s->out_h * s->out_w;
    const int64_t own = q.area + q.out_area;
    scratch memory = take_scratch(own * thread_count());
    if (!memory.data) return 1;
    memset(dw, 0, (size_t)(s->filters * q.taps) * sizeof(real));
#pragma omp parallel
    {
        real *in = memory.data + own * thread_number(), *gradient = in + q.area;
        memset(in, 0, (size_t)own * sizeof(real));
#pragma omp for schedule(dynamic)
        for (int64_t c = 0; c < s->channels; c++)
            for (int64_t n = 0; n < s->batch; n++) {
                copy_in(&q, x + (n * s->channels + c) * plane, in);
                for (int64_t f = c * q.multiplier; f < (c + 1) * q.multiplier; f++) {
                    copy_rows(s->out_h, s->out_w, g + (n * s->filters + f) * pixels, s->out_w,
                              gradient, q.pitch);
                    for (int64_t t = 0; t < q.taps; t++)
                        dw[f * q.taps + t] += dot(gradient, in + tap_offset(&q, t), q.outputs);
                }
            }
    }
    give_scratch(memory);
    return 0;
}
