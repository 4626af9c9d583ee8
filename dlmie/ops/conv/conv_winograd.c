/* 3x3 convolution of stride 1 by Winograd's minimal filtering, F(4x4, 3x3), in float32.
 *
 * A. Lavin, S. Gray, "Fast algorithms for convolutional neural networks" (2016): a tile of 4x4
 * outputs needs 6x6 inputs d and costs, instead of 144 products for each pair of channels, the 36
 * of
 *
 *   y = A' [ (G w G') .* (B' d B) ] A
 *
 * Summed over channels, each of the 36 "frequencies" is a matrix product of its own:
 *
 *   M_e (tiles x filters) = V_e (tiles x channels) . U_e (channels x filters)
 *
 * The polynomial points are 0, +-3/4, +-3/2 and infinity instead of the paper's 0, +-1, +-2 and
 * infinity: all constants stay exact and the rounding error is a quarter (B. Barabasz et al.,
 * "Error analysis and improving the accuracy of Winograd convolution", 2020, on choosing points).
 *
 * The gradient with respect to the input is the same computation with the filters turned and
 * transposed.  The gradient with respect to the filters is F(3x3, 4x4): the 4x4 tiles of g take
 * the part of the filter, and the matrix products sum over tiles.
 *
 * Inputs are transposed on the way in, a strip of pixels at a time, so that a vector holds one
 * pixel of many channels: the transforms then are plain vector arithmetic for every image size,
 * and write the factors in the order in which tile.h reads them.
 */
#include "conv.h"

#ifndef DLMIE_DOUBLE /* float64 stays exact */
#include "lanes.h"
#include "tile.h"

enum {
    SIDE = 6,            /* of an input tile */
    PLANES = SIDE * SIDE, /* frequencies */
    OUT = 4,             /* side of an output tile */
    RUN = 15,            /* tiles of one tile row that are transformed together */
    STRIP = OUT * RUN + 2 + LANES,         /* pixels in a row of a strip, with room to overshoot */
    STRIP_SIZE = SIDE * STRIP * LANES,
    OWN_TILES = 48,      /* tiles in a block when each thread works for itself */
    TEAM_TILES = 108,    /* ... when threads share the transformed input */
    TEAM_DEPTH = 64,     /* channels whose filters are transformed at a time */
    TEAM_BYTES = 1 << 24, /* transformed input at a time */
    FEW_USES = 2,
    OWN_BYTES = 3 << 19, /* tiles and sums of a thread's gradients of filters */
    MOST_OWN_TILES = 96, FEWEST_OWN_TILES = 32
};

/* Points a = 3/4 and b = 3/2. */
#define A1 0.75f
#define A2 0.5625f
#define A3 0.421875f
#define B1 1.5f
#define B2 2.25f
#define B3 3.375f

/* B' x: six values to the six frequencies. */
static inline __attribute__((always_inline)) void input_transform(const vec *x, vec *y) {
    const vec even_a = x[4] - B2 * x[2], odd_a = x[3] - B2 * x[1];
    const vec even_b = x[4] - A2 * x[2], odd_b = x[3] - A2 * x[1];
    y[0] = A2 * B2 * x[0] + (x[4] - (A2 + B2) * x[2]);
    y[1] = even_a + A1 * odd_a;
    y[2] = even_a - A1 * odd_a;
    y[3] = even_b + B1 * odd_b;
    y[4] = even_b - B1 * odd_b;
    y[5] = A2 * B2 * x[1] + (x[5] - (A2 + B2) * x[3]);
}

#define N0 (1 / (A2 * B2))
#define NA (1 / (2 * A2 * (A2 - B2)))
#define NB (1 / (2 * B2 * (B2 - A2)))

/* G x: three filter taps, or four gradients, to the six frequencies (the fourth may be zero). */
static inline __attribute__((always_inline)) void filter_transform(const vec *x, int taps,
                                                                   vec *y) {
    const vec third = taps == 4 ? x[3] : (vec){0};
    const vec even_a = NA * x[0] + NA * A2 * x[2], odd_a = NA * A1 * x[1] + NA * A3 * third;
    const vec even_b = NB * x[0] + NB * B2 * x[2], odd_b = NB * B1 * x[1] + NB * B3 * third;
    y[0] = N0 * x[0];
    y[1] = even_a + odd_a;
    y[2] = even_a - odd_a;
    y[3] = even_b + odd_b;
    y[4] = even_b - odd_b;
    y[5] = taps == 4 ? third : x[2];
}

/* A' x: six frequencies to four outputs, or to the three taps of a filter's gradient. */
static inline __attribute__((always_inline)) void output_transform(const vec *x, int outputs,
                                                                   vec *y) {
    const vec sum_a = x[1] + x[2], difference_a = x[1] - x[2];
    const vec sum_b = x[3] + x[4], difference_b = x[3] - x[4];
    y[0] = x[0] + sum_a + sum_b;
    y[1] = A1 * difference_a + B1 * difference_b;
    y[2] = A2 * sum_a + B2 * sum_b;
    if (outputs == 4) y[3] = A3 * difference_a + B3 * difference_b + x[5];
    else y[2] += x[5];
}

/* ---- Images seen as tiles ------------------------------------------------------------------ */

/* Part of a batch of images: `channels` planes of height x width, `image` elements an image. */
typedef struct {
    real *data;
    const real *end; /* of readable memory */
    int64_t channels, height, width, image;
} planes;

/* The grid of tiles over all images of the batch, counted along rows. */
typedef struct {
    int64_t rows, columns, tiles, out_h, out_w, pad_top, pad_left;
} grid;

static grid make_grid(int64_t batch, int64_t out_h, int64_t out_w, int64_t top, int64_t left) {
    const int64_t rows = (out_h + OUT - 1) / OUT, columns = (out_w + OUT - 1) / OUT;
    return (grid){rows, columns, batch * rows * columns, out_h, out_w, top, left};
}

/* Consecutive tiles of one row of one image, from tile `first` on. */
typedef struct {
    int64_t image, top, left, tiles; /* first output row and column, number of tiles */
} run;

static run run_at(const grid *q, int64_t first, int64_t limit) {
    const int64_t column = first % q->columns, row = first / q->columns;
    return (run){row / q->rows, row % q->rows * OUT, column * OUT,
                 min64(min64(q->columns - column, RUN), limit)};
}

/* Rows [y, y + height) and columns [x, x + n) of LANES channels -> strip, zero outside. */
static void read_strip(const planes *s, int64_t image, int64_t channel, int64_t y, int64_t height,
                       int64_t x, int64_t n, real *strip) {
    const int64_t plane = s->height * s->width, count = min64(LANES, s->channels - channel);
    const real *source = s->data + image * s->image + channel * plane;
    const int64_t from = min64(max64(-x, 0), n), to = max64(min64(n, s->width - x), from);
    for (int64_t r = 0; r < height; r++, strip += STRIP * LANES) {
        const int inside = y + r >= 0 && y + r < s->height && to > from;
        const int64_t a = inside ? from : n, b = inside ? to : n;
        memset(strip, 0, (size_t)(a * LANES) * sizeof(real));
        if (inside)
            to_lanes(source + (y + r) * s->width + x + a, plane, count, b - a, s->end,
                     strip + a * LANES);
        memset(strip + b * LANES, 0, (size_t)((n - b) * LANES) * sizeof(real));
    }
}

/* Where transformed tiles stand: frequency e of tile t, LANES channels, at data[e plane + t row]. */
typedef struct {
    real *data;
    int64_t plane, row;
} factor;

static inline factor offset(factor f, int64_t elements) {
    f.data += elements;
    return f;
}

/* LANES channels of tiles [first, first + tiles) of the input -> V. */
static void transform_input(const planes *x, const grid *q, int64_t channel, int64_t first,
                            int64_t tiles, factor v, real *strip) {
    for (int64_t done = 0; done < tiles;) {
        const run r = run_at(q, first + done, tiles - done);
        read_strip(x, r.image, channel, r.top - q->pad_top, SIDE, r.left - q->pad_left,
                   OUT * r.tiles + 2, strip);
        for (int64_t p = 0; p < OUT * r.tiles + 2; p++) { /* along columns, in place */
            vec in[SIDE], out[SIDE];
            for (int i = 0; i < SIDE; i++) in[i] = load(strip + (i * STRIP + p) * LANES);
            input_transform(in, out);
            for (int i = 0; i < SIDE; i++) store(strip + (i * STRIP + p) * LANES, out[i]);
        }
        for (int64_t t = 0; t < r.tiles; t++, done++) { /* along rows */
            const real *source = strip + t * OUT * LANES;
            real *target = v.data + done * v.row;
            for (int i = 0; i < SIDE; i++) {
                vec in[SIDE], out[SIDE];
                for (int j = 0; j < SIDE; j++) in[j] = load(source + (i * STRIP + j) * LANES);
                input_transform(in, out);
                for (int j = 0; j < SIDE; j++) store(target + (i * SIDE + j) * v.plane, out[j]);
            }
        }
    }
}

/* LANES channels of the 4x4 tiles of the output's gradient -> the part of filters. */
static void transform_gradient(const planes *g, const grid *q, int64_t channel, int64_t first,
                               int64_t tiles, factor v, real *strip) {
    for (int64_t done = 0; done < tiles;) {
        const run r = run_at(q, first + done, tiles - done);
        read_strip(g, r.image, channel, r.top, OUT, r.left, OUT * r.tiles, strip);
        for (int64_t t = 0; t < r.tiles; t++, done++) {
            const real *source = strip + t * OUT * LANES;
            real *target = v.data + done * v.row;
            vec half[SIDE][OUT], in[OUT], out[SIDE];
            for (int j = 0; j < OUT; j++) {
                for (int i = 0; i < OUT; i++) in[i] = load(source + (i * STRIP + j) * LANES);
                filter_transform(in, OUT, out);
                for (int i = 0; i < SIDE; i++) half[i][j] = out[i];
            }
            for (int i = 0; i < SIDE; i++) {
                filter_transform(half[i], OUT, out);
                for (int j = 0; j < SIDE; j++) store(target + (i * SIDE + j) * v.plane, out[j]);
            }
        }
    }
}

/* What becomes of the sums: with `pooled` the largest of each 2x2 is kept (bias and activation do
 * not change which it is). */
typedef struct {
    const real *bias; /* or NULL */
    int activation, pooled;
} ending;

static inline vec larger(vec a, vec b) { return choose((b > a) | (b != b), b, a); /* or NaN */ }

/* M -> LANES channels of the output. */
static void transform_output(const planes *y, const grid *q, int64_t channel, int64_t first,
                             int64_t tiles, factor m, ending end, real *strip) {
    const int64_t plane = y->height * y->width, count = min64(LANES, y->channels - channel);
    const int64_t shrink = end.pooled ? 2 : 1, side = OUT / shrink;
    vec start = {0};
    if (end.bias) memcpy(&start, end.bias + channel, (size_t)count * sizeof(real));
    const vec floor = broadcast(end.activation == NO_ACTIVATION ? -INFINITY : 0);
    const vec ceiling = broadcast(end.activation == RELU6 ? 6 : INFINITY);
    for (int64_t done = 0; done < tiles;) {
        const run r = run_at(q, first + done, tiles - done);
        for (int64_t t = 0; t < r.tiles; t++, done++) {
            const real *source = m.data + done * m.row;
            real *target = strip + t * side * LANES;
            vec half[OUT][SIDE], in[SIDE], out[OUT], above[OUT] = {{0}};
            for (int j = 0; j < SIDE; j++) {
                for (int i = 0; i < SIDE; i++) in[i] = load(source + (i * SIDE + j) * m.plane);
                output_transform(in, OUT, out);
                for (int i = 0; i < OUT; i++) half[i][j] = out[i];
            }
            for (int i = 0; i < OUT; i++) {
                output_transform(half[i], OUT, out);
                if (end.pooled && i % 2 == 0) {
                    memcpy(above, out, sizeof out);
                    continue;
                }
                for (int j = 0; end.pooled && j < OUT / 2; j++)
                    out[j] = larger(larger(above[2 * j], above[2 * j + 1]),
                                    larger(out[2 * j], out[2 * j + 1]));
                for (int j = 0; j < side; j++) {
                    vec v = out[j] + start;
                    v = choose(v < floor, floor, v); /* NaN stays */
                    v = choose(v > ceiling, ceiling, v);
                    store(target + (i / shrink * STRIP + j) * LANES, v);
                }
            }
        }
        const int64_t top = r.top / shrink, left = r.left / shrink;
        real *rows = y->data + r.image * y->image + channel * plane + top * y->width + left;
        const int64_t height = min64(side, y->height - top);
        const int64_t width = min64(side * r.tiles, y->width - left);
        for (int64_t i = 0; i < height; i++)
            from_lanes(strip + i * STRIP * LANES, width, rows + i * y->width, plane, count);
    }
}

/* ---- Filters ------------------------------------------------------------------------------- */

/* Tap k of the filter that leads from input channel d to output channel f stands at
 * data[f * to + d * from + (turned ? 8 - k : k)]. */
typedef struct {
    const real *data, *end;
    int64_t outputs, to, from;
    int turned;
} filters;

/* Planes of factors are a line longer than their contents: not all at one place of the cache. */
static int64_t filter_plane(int64_t depth) { return depth * PANEL + LANES; }

/* Filters of output channels [first, first + PANEL) and `depth` input channels from `channel` on
 * -> U: frequency e of input channel d at u[e * filter_plane(depth) + d * PANEL]. */
static void transform_filters(const filters *w, int64_t first, int64_t channel, int64_t depth,
                              real *u) {
    for (int64_t f = first; f < min64(first + PANEL, w->outputs); f += LANES, u += LANES) {
        const int64_t count = min64(LANES, w->outputs - f);
        for (int64_t d = 0; d < depth; d++) {
            real taps[(9 + LANES) * LANES];
            to_lanes(w->data + f * w->to + (channel + d) * w->from, w->to, count, 9, w->end, taps);
            vec half[SIDE][3], in[3], out[SIDE];
            for (int j = 0; j < 3; j++) {
                for (int i = 0; i < 3; i++)
                    in[i] = load(taps + (w->turned ? 8 - 3 * i - j : 3 * i + j) * LANES);
                filter_transform(in, 3, out);
                for (int i = 0; i < SIDE; i++) half[i][j] = out[i];
            }
            for (int i = 0; i < SIDE; i++) {
                filter_transform(half[i], 3, out);
                for (int j = 0; j < SIDE; j++)
                    store(u + (i * SIDE + j) * filter_plane(depth) + d * PANEL, out[j]);
            }
        }
    }
}

/* ---- Forward, and gradient with respect to the input ---------------------------------------- */

/* A convolution of x by w to y. */
typedef struct {
    planes x, y;
    filters w;
    ending end;
    grid q;
} job;

/* M (tiles x PANEL) = or += V . U, for each frequency. */
static void multiply(int64_t tiles, int64_t columns, int64_t depth, factor v, const real *u,
                     int accumulate, factor m) {
    for (int e = 0; e < PLANES; e++)
        for (int64_t t = 0; t < tiles; t += TILE_ROWS) {
            const left_factor a = {v.data + e * v.plane + t * v.row, v.row, 1};
            tile_product(min64(TILE_ROWS, tiles - t), columns, depth, a, u + e * filter_plane(depth),
                         PANEL, accumulate, m.data + e * m.plane + t * m.row, m.row);
        }
}

static void write_panel(const job *s, int64_t panel, int64_t first, int64_t tiles, factor m,
                        real *strip) {
    const int64_t channel = panel * PANEL, end = min64(channel + PANEL, s->y.channels);
    for (int64_t c = channel; c < end; c += LANES)
        transform_output(&s->y, &s->q, c, first, tiles, offset(m, c - channel), s->end, strip);
}

static int64_t panel_columns(const job *s, int64_t panel) {
    return round_up(min64(PANEL, s->y.channels - panel * PANEL), LANES);
}

static factor make_factor(real **memory, int64_t tiles, int64_t row) {
    const factor f = {*memory, tiles * row + LANES, row};
    *memory += PLANES * f.plane;
    return f;
}

static int64_t factor_size(int64_t tiles, int64_t row) { return PLANES * (tiles * row + LANES); }

/* Many tiles: every thread takes blocks of tiles through all three steps within its own cache; the
 * filters are transformed once for all. */
static int each_for_itself(const job *s) {
    const int64_t depth = s->x.channels, row = round_up(depth, LANES);
    const int64_t panels = (s->y.channels + PANEL - 1) / PANEL;
    const int64_t blocks = (s->q.tiles + OWN_TILES - 1) / OWN_TILES;
    const int64_t all_filters = panels * PLANES * filter_plane(depth);
    const int64_t own = factor_size(OWN_TILES, row) + factor_size(OWN_TILES, PANEL) + STRIP_SIZE;
    scratch memory = take_scratch(all_filters + own * thread_count());
    if (!memory.data) return 1;
    real *u = memory.data;
#pragma omp parallel
    {
        real *mine = u + all_filters + own * thread_number();
        real *strip = mine + own - STRIP_SIZE;
        const factor v = make_factor(&mine, OWN_TILES, row);
        const factor m = make_factor(&mine, OWN_TILES, PANEL);
#pragma omp for schedule(dynamic)
        for (int64_t panel = 0; panel < panels; panel++)
            transform_filters(&s->w, panel * PANEL, 0, depth, u + panel * PLANES * filter_plane(depth));
#pragma omp for schedule(dynamic)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * OWN_TILES;
            const int64_t tiles = min64(OWN_TILES, s->q.tiles - first);
            for (int64_t c = 0; c < depth; c += LANES)
                transform_input(&s->x, &s->q, c, first, tiles, offset(v, c), strip);
            for (int64_t panel = 0; panel < panels; panel++) {
                multiply(tiles, panel_columns(s, panel), depth, v,
                         u + panel * PLANES * filter_plane(depth), 0, m);
                write_panel(s, panel, first, tiles, m, strip);
            }
        }
    }
    give_scratch(memory);
    return 0;
}

/* Few tiles, or so many channels that a block leaves the cache: the threads transform the input
 * together, then each takes panels of filters, some channels at a time.  Filters that would be used
 * only a few times are transformed just before, in the cache; others once for all. */
static int together(const job *s) {
    const int64_t depth = s->x.channels, row = round_up(depth, LANES);
    const int64_t panels = (s->y.channels + PANEL - 1) / PANEL;
    const int64_t room = max64(TEAM_BYTES / (PLANES * row * (int64_t)sizeof(real)), TEAM_TILES);
    const int64_t rounds = (s->q.tiles + room - 1) / room;
    const int64_t round_tiles = (s->q.tiles + rounds - 1) / rounds;
    const int64_t parts = (round_tiles + TEAM_TILES - 1) / TEAM_TILES;
    const int64_t part = round_up((round_tiles + parts - 1) / parts, TILE_ROWS);
    const int64_t pieces = (depth + TEAM_DEPTH - 1) / TEAM_DEPTH;
    const int64_t piece = PLANES * filter_plane(TEAM_DEPTH); /* some channels of one panel */
    const int keep_filters = rounds * parts > FEW_USES;
    const int64_t kept = keep_filters ? panels * pieces * piece : 0;
    const int64_t own = piece + factor_size(part, PANEL) + STRIP_SIZE;
    scratch memory = take_scratch(kept + factor_size(round_tiles, row) + own * thread_count());
    if (!memory.data) return 1;
    real *all_filters = memory.data, *shared = memory.data + kept;
    const factor v = make_factor(&shared, round_tiles, row);
#pragma omp parallel
    {
        real *u = shared + own * thread_number(), *mine = u + piece;
        real *strip = u + own - STRIP_SIZE;
        const factor m = make_factor(&mine, part, PANEL);
        if (keep_filters) {
#pragma omp for schedule(dynamic) nowait
            for (int64_t i = 0; i < panels * pieces; i++) {
                const int64_t c = i % pieces * TEAM_DEPTH;
                transform_filters(&s->w, i / pieces * PANEL, c, min64(TEAM_DEPTH, depth - c),
                                  all_filters + i * piece);
            }
        }
        for (int64_t start = 0; start < s->q.tiles; start += round_tiles) {
            const int64_t end = min64(start + round_tiles, s->q.tiles);
#pragma omp for collapse(2) schedule(dynamic)
            for (int64_t first = start; first < end; first += part)
                for (int64_t c = 0; c < depth; c += LANES)
                    transform_input(&s->x, &s->q, c, first, min64(part, end - first),
                                    offset(v, (first - start) * row + c), strip);
#pragma omp for collapse(2) schedule(dynamic)
            for (int64_t panel = 0; panel < panels; panel++)
                for (int64_t first = start; first < end; first += part) {
                    const int64_t tiles = min64(part, end - first);
                    for (int64_t i = 0; i < pieces; i++) {
                        const int64_t c = i * TEAM_DEPTH, some = min64(TEAM_DEPTH, depth - c);
                        const real *ready = all_filters + (panel * pieces + i) * piece;
                        if (!keep_filters)
                            transform_filters(&s->w, panel * PANEL, c, some, u);
                        multiply(tiles, panel_columns(s, panel), some,
                                 offset(v, (first - start) * row + c), keep_filters ? ready : u,
                                 c > 0, m);
                    }
                    write_panel(s, panel, first, tiles, m, strip);
                }
        }
    }
    give_scratch(memory);
    return 0;
}

static int convolve(const job *s) {
    if (s->q.tiles == 0) return 0;
    const int enough = s->q.tiles >= 2 * OWN_TILES * thread_count();
    return enough && s->x.channels <= 128 ? each_for_itself(s) : together(s);
}

static int forward(const conv_geometry *s, const real *x, const real *w, ending end, real *y) {
    const int64_t shrink = end.pooled ? 2 : 1, plane = s->height * s->width;
    const int64_t height = s->out_h / shrink, width = s->out_w / shrink, out = height * width;
    const int64_t channels = s->channels / s->groups, outputs = s->filters / s->groups;
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++) {
        const job one = {
            .x = {(real *)x + group * channels * plane, x + s->batch * s->channels * plane,
                  channels, s->height, s->width, s->channels * plane},
            .y = {y + group * outputs * out, NULL, outputs, height, width, s->filters * out},
            .w = {w + group * outputs * channels * 9, w + s->filters * channels * 9, outputs,
                  channels * 9, 9, 0},
            .end = {end.bias ? end.bias + group * outputs : NULL, end.activation, end.pooled},
            .q = make_grid(s->batch, s->out_h, s->out_w, s->pad_top, s->pad_left)};
        failed = convolve(&one);
    }
    return failed;
}

int conv_winograd_forward(const conv_geometry *s, const real *x, const real *w, const real *bias,
                          int activation, real *y) {
    return forward(s, x, w, (ending){bias, activation, 0}, y);
}

int conv_winograd_pooled(const conv_geometry *s, const real *x, const real *w, const real *bias,
                         int activation, real *y) {
    return forward(s, x, w, (ending){bias, activation, 1}, y);
}

int conv_winograd_input_gradient(const conv_geometry *s, const real *w, const real *g, real *dx) {
    const int64_t plane = s->height * s->width, out = s->out_h * s->out_w;
    const int64_t channels = s->channels / s->groups, outputs = s->filters / s->groups;
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++) {
        const job one = {
            .x = {(real *)g + group * outputs * out, g + s->batch * s->filters * out, outputs,
                  s->out_h, s->out_w, s->filters * out},
            .y = {dx + group * channels * plane, NULL, channels, s->height, s->width,
                  s->channels * plane},
            .w = {w + group * outputs * channels * 9, w + s->filters * channels * 9, channels, 9,
                  channels * 9, 1},
            .q = make_grid(s->batch, s->height, s->width, 2 - s->pad_top, 2 - s->pad_left)};
        failed = convolve(&one);
    }
    return failed;
}

/* ---- Gradient with respect to the filters --------------------------------------------------- */

/* The 36 products (outputs x channels) -> dw, for LANES channels of one output. */
static void write_filter_gradient(const real *m, int64_t plane, int64_t count, real *dw) {
    real taps[LANES * LANES * ((9 + LANES - 1) / LANES)] = {0};
    vec half[3][SIDE], in[SIDE], out[OUT];
    for (int j = 0; j < SIDE; j++) {
        for (int i = 0; i < SIDE; i++) in[i] = load(m + (i * SIDE + j) * plane);
        output_transform(in, 3, out);
        for (int i = 0; i < 3; i++) half[i][j] = out[i];
    }
    for (int i = 0; i < 3; i++) {
        output_transform(half[i], 3, out);
        for (int j = 0; j < 3; j++) store(taps + (3 * i + j) * LANES, out[j]);
    }
    from_lanes(taps, 9, dw, 9, count);
}

/* Channels are cut into panels, each (tiles x row), which tile.h reads as either factor. */
typedef struct {
    int64_t channels, row, panels, panel; /* panel: elements of one */
} panels;

static panels make_panels(int64_t channels, int64_t tiles) {
    const int64_t all = round_up(channels, LANES), row = min64(all, PANEL);
    return (panels){all, row, (all + row - 1) / row, tiles * row};
}

static int64_t at_channel(const panels *p, int64_t c) { return c / p->row * p->panel + c % p->row; }

static factor make_panel_factor(real **memory, int64_t tiles, const panels *p) {
    factor f = make_factor(memory, tiles, p->panels * p->row);
    f.row = p->row;
    return f;
}

/* sums (outputs x channels) = or += u' . v of frequency e. */
static void add_frequency(int e, int64_t outputs, int64_t tiles, factor u, const panels *up,
                          factor v, const panels *vp, int accumulate, real *sums) {
    for (int64_t f = 0; f < outputs; f += up->row)
        for (int64_t c = 0; c < vp->channels; c += vp->row) {
            const real *left = u.data + e * u.plane + at_channel(up, f);
            const real *right = v.data + e * v.plane + at_channel(vp, c);
            const int64_t end = min64(outputs - f, up->row), width = min64(vp->row, vp->channels - c);
            for (int64_t r = 0; r < end; r += TILE_ROWS)
                tile_product(min64(TILE_ROWS, end - r), width, tiles,
                             (left_factor){left + r, 1, u.row}, right, v.row, accumulate,
                             sums + (f + r) * vp->channels + c, vp->channels);
        }
}

/* So many tiles that they, what is made of them and the sums stay in a core's cache; 0 if those would
 * be too few to be worth reading and writing the sums. */
static int64_t own_gradient_tiles(int64_t channels, int64_t outputs) {
    channels = round_up(channels, LANES), outputs = round_up(outputs, LANES);
    const int64_t room = OWN_BYTES / (PLANES * (int64_t)sizeof(real)) - outputs * channels;
    const int64_t tiles = min64(room / (channels + outputs), MOST_OWN_TILES);
    return tiles < FEWEST_OWN_TILES ? 0 : tiles;
}

int conv_winograd_own_gradient(const conv_geometry *s) {
    const grid q = make_grid(s->batch, s->out_h, s->out_w, s->pad_top, s->pad_left);
    const int64_t own = own_gradient_tiles(s->channels / s->groups, s->filters / s->groups);
    return own && q.tiles >= 2 * own * thread_count();
}

/* Few channels: every thread takes blocks of tiles through all steps, and has sums of its own, which
 * are added in the order of the threads. */
static int own_gradients(const planes *x, const planes *g, const grid *q, int64_t most, real *dw) {
    const int64_t blocks = (q->tiles + most - 1) / most, parts = thread_count();
    const panels vp = make_panels(x->channels, most), up = make_panels(g->channels, most);
    const int64_t plane = g->channels * vp.channels, sums = PLANES * plane;
    const int64_t own = sums + factor_size(most, vp.panels * vp.row) +
                        factor_size(most, up.panels * up.row) + STRIP_SIZE;
    scratch memory = take_scratch(parts * own);
    if (!memory.data) return 1;
#pragma omp parallel
    {
#pragma omp for schedule(static, 1)
        for (int64_t part = 0; part < parts; part++) {
            real *m = memory.data + part * own, *rest = m + sums, *strip = m + own - STRIP_SIZE;
            const factor v = make_panel_factor(&rest, most, &vp);
            const factor u = make_panel_factor(&rest, most, &up);
            const int64_t start = part * blocks / parts, end = (part + 1) * blocks / parts;
            for (int64_t b = start; b < end; b++) {
                const int64_t first = b * most, tiles = min64(most, q->tiles - first);
                for (int64_t c = 0; c < vp.channels; c += LANES)
                    transform_input(x, q, c, first, tiles, offset(v, at_channel(&vp, c)), strip);
                for (int64_t f = 0; f < up.channels; f += LANES)
                    transform_gradient(g, q, f, first, tiles, offset(u, at_channel(&up, f)), strip);
                for (int e = 0; e < PLANES; e++)
                    add_frequency(e, g->channels, tiles, u, &up, v, &vp, b > start, m + e * plane);
            }
        }
#pragma omp for schedule(static)
        for (int64_t f = 0; f < g->channels; f++)
            for (int64_t c = 0; c < vp.channels; c += LANES) {
                real *m = memory.data + f * vp.channels + c;
                for (int e = 0; e < PLANES; e++)
                    for (int64_t part = 1; part < parts; part++) {
                        real *total = m + e * plane;
                        store(total, load(total) + load(total + part * own));
                    }
                write_filter_gradient(m, plane, min64(LANES, x->channels - c),
                                      dw + (f * x->channels + c) * 9);
            }
    }
    give_scratch(memory);
    return 0;
}

/* Many channels: the threads transform a round of tiles together, then take frequencies. */
static int gradients_together(const planes *x, const planes *g, const grid *q, real *dw) {
    const int64_t channels = round_up(x->channels, LANES), outputs = round_up(g->channels, LANES);
    const int64_t room = TEAM_BYTES / (PLANES * (channels + outputs) * (int64_t)sizeof(real));
    const int64_t most = max64(min64(room, 384), 48), rounds = (q->tiles + most - 1) / most;
    const int64_t tiles_at_once = (q->tiles + rounds - 1) / rounds, plane = g->channels * channels;
    const panels vp = make_panels(x->channels, tiles_at_once);
    const panels up = make_panels(g->channels, tiles_at_once);
    scratch memory = take_scratch(PLANES * plane + factor_size(tiles_at_once, vp.panels * vp.row) +
                                  factor_size(tiles_at_once, up.panels * up.row) +
                                  STRIP_SIZE * thread_count());
    if (!memory.data) return 1;
    real *m = memory.data, *rest = m + PLANES * plane;
    const factor v = make_panel_factor(&rest, tiles_at_once, &vp);
    const factor u = make_panel_factor(&rest, tiles_at_once, &up);
#pragma omp parallel
    {
        real *strip = rest + STRIP_SIZE * thread_number();
        for (int64_t first = 0; first < q->tiles; first += tiles_at_once) {
            const int64_t tiles = min64(tiles_at_once, q->tiles - first);
#pragma omp for schedule(dynamic) nowait
            for (int64_t c = 0; c < channels; c += LANES)
                transform_input(x, q, c, first, tiles, offset(v, at_channel(&vp, c)), strip);
#pragma omp for schedule(dynamic)
            for (int64_t f = 0; f < outputs; f += LANES)
                transform_gradient(g, q, f, first, tiles, offset(u, at_channel(&up, f)), strip);
#pragma omp for schedule(dynamic)
            for (int e = 0; e < PLANES; e++)
                add_frequency(e, g->channels, tiles, u, &up, v, &vp, first > 0, m + e * plane);
        }
#pragma omp for schedule(static)
        for (int64_t f = 0; f < g->channels; f++)
            for (int64_t c = 0; c < channels; c += LANES)
                write_filter_gradient(m + f * channels + c, plane, min64(LANES, x->channels - c),
                                      dw + (f * x->channels + c) * 9);
    }
    give_scratch(memory);
    return 0;
}

int conv_winograd_weight_gradient(const conv_geometry *s, const real *x, const real *g, real *dw) {
    const int64_t plane = s->height * s->width, out = s->out_h * s->out_w;
    const int64_t channels = s->channels / s->groups, outputs = s->filters / s->groups;
    const grid q = make_grid(s->batch, s->out_h, s->out_w, s->pad_top, s->pad_left);
    const int own = conv_winograd_own_gradient(s);
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++) {
        const planes inputs = {(real *)x + group * channels * plane,
                               x + s->batch * s->channels * plane, channels, s->height, s->width,
                               s->channels * plane};
        const planes gradients = {(real *)g + group * outputs * out,
                                  g + s->batch * s->filters * out, outputs, s->out_h, s->out_w,
                                  s->filters * out};
        real *here = dw + group * outputs * channels * 9;
        const int64_t most = own_gradient_tiles(channels, outputs);
        failed = own ? own_gradients(&inputs, &gradients, &q, most, here)
                     : gradients_together(&inputs, &gradients, &q, here);
    }
    return failed;
}
#endif
