/* Depthwise convolution: each filter sees one channel, so that there is no matrix product in it.
 * F. Chollet, "Xception: deep learning with depthwise separable convolutions" (2017).
 *
 * LANES channels go together, one in each lane of a vector (lanes.h): a tap of a filter is then one
 * product of two vectors, whatever the width of the image, the stride or the dilation.  A band of
 * rows is transposed into a small area with zeros around it, correlated there (window.h), and
 * transposed back.
 *
 * The gradient with respect to the input is the same sum with the filter turned, over the gradient
 * of the output with stride - 1 zeros between its pixels.  The gradient with respect to the filter
 * multiplies the area by the gradient of the output instead, and sums over pixels.
 */
#include "window.h"
#include "lanes.h"

/* LANES channels of planes in memory, every other of which may be someone else's: a plane is
 * `pitch` elements after the one before. */
typedef struct {
    real *data;
    const real *end; /* of readable memory */
    int64_t pitch, count;
} lanes;

/* Rows of the image that outputs [first, first + band) read -> area.  What lies between and beside
 * pixels is zero already; rows of the area without a row of the image become zero. */
static void fill_area(const window *q, lanes image, int64_t first, real *area) {
    const int64_t start = q->skip_h + first * q->step_h - q->top; /* row of the area - top */
    int64_t from = q->height, to = q->height;
    for (int64_t r = 0; r < q->rows; r++) {
        const int64_t y = start + r;
        if (y >= 0 && y % q->spread_h == 0 && y / q->spread_h < q->height) {
            from = min64(from, y / q->spread_h);
            to = y / q->spread_h + 1;
        } else {
            memset(area + r * q->pitch * LANES, 0, (size_t)(q->pitch * LANES) * sizeof(real));
        }
    }
    if (from == q->height) return;
    real *row = area + ((from * q->spread_h - start) * q->pitch + q->left) * LANES;
    int64_t x = 0;
    for (int64_t p = from * q->width; p < to * q->width; p += LANES) {
        const int64_t n = min64(to * q->width - p, LANES);
        vec v[LANES];
        read_pixels(image.data + p, image.pitch, image.count, n, image.end, v);
        for (int64_t l = 0; l < n; l++) {
            store(row + x * q->spread_w * LANES, v[l]);
            if (++x == q->width) {
                x = 0;
                row += q->spread_h * q->pitch * LANES;
            }
        }
    }
}

/* Filters of all channels -> tap t of filter m of channels [LANES k, LANES k + LANES) at
 * target[((k multiplier + m) taps + t) LANES]; `turned` by half a circle for the gradient. */
static void spread_filters(const conv_geometry *s, const real *w, int turned, real *target) {
    const int64_t taps = s->kernel_h * s->kernel_w, multiplier = s->filters / s->channels;
    for (int64_t c = 0; c < round_up(s->channels, LANES); c++)
        for (int64_t m = 0; m < multiplier; m++)
            for (int64_t t = 0; t < taps; t++) {
                const int64_t tap = turned ? taps - 1 - t : t;
                target[((c / LANES * multiplier + m) * taps + t) * LANES + c % LANES] =
                    c < s->channels ? w[(c * multiplier + m) * taps + tap] : 0;
            }
}

/* LANES channels, from `channel` on, of image n; or of their filters number m. */
static lanes input_lanes(const conv_geometry *s, const real *x, int64_t n, int64_t channel) {
    const int64_t plane = s->height * s->width;
    return (lanes){(real *)x + (n * s->channels + channel) * plane,
                   x + s->batch * s->channels * plane, plane, min64(LANES, s->channels - channel)};
}

static lanes output_lanes(const conv_geometry *s, const real *y, int64_t n, int64_t channel,
                          int64_t m) {
    const int64_t plane = s->out_h * s->out_w, multiplier = s->filters / s->channels;
    return (lanes){(real *)y + (n * s->filters + channel * multiplier + m) * plane,
                   y + s->batch * s->filters * plane, multiplier * plane,
                   min64(LANES, s->channels - channel)};
}

static vec bias_of(const conv_geometry *s, const real *bias, int64_t channel, int64_t m) {
    const int64_t multiplier = s->filters / s->channels;
    vec v = {0};
    for (int64_t l = 0; bias && l < min64(LANES, s->channels - channel); l++)
        v[l] = bias[(channel + l) * multiplier + m];
    return v;
}

/* Transposed filters, and for each thread an area and outputs. */
typedef struct {
    scratch memory;
    int64_t weights, own;
} workspace;

static workspace take_workspace(const conv_geometry *s, const window *q) {
    workspace k;
    k.weights = round_up(s->channels, LANES) * (s->filters / s->channels) * q->taps;
    k.own = q->area + q->out;
    k.memory = take_scratch(k.weights + k.own * thread_count());
    return k;
}

static real *own_area(const workspace *k, const window *q) {
    real *area = k->memory.data + k->weights + k->own * thread_number();
    memset(area, 0, (size_t)q->area * sizeof(real));
    return area;
}

int KERNEL(conv_depthwise_forward)(const conv_geometry *s, const real *x, const real *w,
                                   const real *bias, int activation, real *y) {
    const window q = forward_window(s, AREA_BYTES);
    const int64_t multiplier = s->filters / s->channels;
    const workspace k = take_workspace(s, &q);
    if (!k.memory.data) return 1;
    spread_filters(s, w, 0, k.memory.data);
#pragma omp parallel
    {
        real *area = own_area(&k, &q), *out = area + q.area;
        ending end = make_ending(activation);
#pragma omp for collapse(3) schedule(dynamic)
        for (int64_t n = 0; n < s->batch; n++)
            for (int64_t c = 0; c < s->channels; c += LANES)
                for (int64_t band = 0; band < q.bands; band++) {
                    const int64_t first = band * q.band, rows = min64(q.band, q.out_h - first);
                    fill_area(&q, input_lanes(s, x, n, c), first, area);
                    for (int64_t m = 0; m < multiplier; m++) {
                        const lanes to = output_lanes(s, y, n, c, m);
                        end.start = bias_of(s, bias, c, m);
                        correlate(&q, area, k.memory.data + (c * multiplier + m * LANES) * q.taps,
                                  end, 0, rows, out);
                        from_lanes(out, rows * q.out_w, to.data + first * q.out_w, to.pitch,
                                   to.count);
                    }
                }
    }
    give_scratch(k.memory);
    return 0;
}

int KERNEL(conv_depthwise_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                          real *dx) {
    const window q = gradient_window(s, AREA_BYTES);
    const int64_t multiplier = s->filters / s->channels;
    const workspace k = take_workspace(s, &q);
    if (!k.memory.data) return 1;
    spread_filters(s, w, 1, k.memory.data);
#pragma omp parallel
    {
        real *area = own_area(&k, &q), *out = area + q.area;
        const ending end = make_ending(NO_ACTIVATION);
#pragma omp for collapse(3) schedule(dynamic)
        for (int64_t n = 0; n < s->batch; n++)
            for (int64_t c = 0; c < s->channels; c += LANES)
                for (int64_t band = 0; band < q.bands; band++) {
                    const int64_t first = band * q.band, rows = min64(q.band, q.out_h - first);
                    const lanes to = input_lanes(s, dx, n, c);
                    for (int64_t m = 0; m < multiplier; m++) {
                        fill_area(&q, output_lanes(s, g, n, c, m), first, area);
                        correlate(&q, area, k.memory.data + (c * multiplier + m * LANES) * q.taps,
                                  end, m > 0, rows, out);
                    }
                    from_lanes(out, rows * q.out_w, to.data + first * q.out_w, to.pitch, to.count);
                }
    }
    give_scratch(k.memory);
    return 0;
}

/* sums[t] += sum over outputs of g times what tap t reads. */
static void add_products(const window *q, const real *area, const real *g, int64_t rows,
                         real *sums) {
    enum { CHAINS = 4 }; /* of additions, that need not wait for one another */
    const int64_t step = q->step_w * LANES;
    for (int64_t i = 0; i < q->kernel_h; i++)
        for (int64_t j = 0; j < q->kernel_w; j++, sums += LANES) {
            vec parts[CHAINS] = {load(sums)};
            for (int64_t r = 0; r < rows; r++) {
                const real *a = area + ((r * q->step_h + i * q->dilation_h) * q->pitch + q->skip_w +
                                        j * q->dilation_w) * LANES;
                const real *b = g + r * q->out_w * LANES;
                int64_t x = 0;
                for (; x + CHAINS <= q->out_w; x += CHAINS)
                    for (int p = 0; p < CHAINS; p++)
                        parts[p] += load(a + (x + p) * step) * load(b + (x + p) * LANES);
                for (; x < q->out_w; x++) parts[0] += load(a + x * step) * load(b + x * LANES);
            }
            store(sums, (parts[0] + parts[1]) + (parts[2] + parts[3]));
        }
}

/* Each thread sums whole channels: the order of additions does not depend on their number. */
int KERNEL(conv_depthwise_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                           real *dw) {
    const window q = forward_window(s, AREA_BYTES);
    const int64_t multiplier = s->filters / s->channels;
    const workspace k = take_workspace(s, &q);
    if (!k.memory.data) return 1;
    memset(k.memory.data, 0, (size_t)k.weights * sizeof(real));
#pragma omp parallel
    {
        real *area = own_area(&k, &q), *gradient = area + q.area;
#pragma omp for schedule(dynamic)
        for (int64_t c = 0; c < s->channels; c += LANES) {
            real *sums = k.memory.data + c * multiplier * q.taps;
            for (int64_t n = 0; n < s->batch; n++)
                for (int64_t first = 0; first < q.out_h; first += q.band) {
                    const int64_t rows = min64(q.band, q.out_h - first);
                    fill_area(&q, input_lanes(s, x, n, c), first, area);
                    for (int64_t m = 0; m < multiplier; m++) {
                        const lanes from = output_lanes(s, g, n, c, m);
                        to_lanes(from.data + first * q.out_w, from.pitch, from.count,
                                 rows * q.out_w, from.end, gradient);
                        add_products(&q, area, gradient, rows, sums + m * LANES * q.taps);
                    }
                }
            for (int64_t i = c; i < min64(c + LANES, s->channels); i++)
                for (int64_t m = 0; m < multiplier; m++)
                    for (int64_t t = 0; t < q.taps; t++)
                        dw[(i * multiplier + m) * q.taps + t] =
                            sums[(m * q.taps + t) * LANES + i - c];
        }
    }
    give_scratch(k.memory);
    return 0;
}
