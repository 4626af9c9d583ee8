/* A chain of convolutions as one operation: inverted residual blocks, one after the other.
 *
 * M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (2018).  Step i is
 *
 *   y_i = activation(conv(y_source, w_i) + b_i) [+ y_residual]
 *
 * a 1x1 convolution, a depthwise one, or any one of the chain's input.  Between steps, activations
 * stand as vectors of LANES channels, pixel after pixel, so that no step moves anything to where it
 * is needed: the element of channel c, pixel p of an image is
 * y[(c / LANES * pixels + p) * LANES + c % LANES].  What only a depthwise step reads is computed a
 * band of rows at a time into its area (window.h) and never stored.  All of a chain is one parallel
 * region: threads spin until the tasks of a step are done, and sleep if that takes long, but do not
 * wait for a thread that is late, which finds its share done.  Filters are packed in the order of
 * the inner loops by the task that uses them: that costs a sixth of the products of a 7x7 image,
 * less of any other, and nothing has to be kept from call to call.
 *
 * Sums start from the bias and run in the order of conv_gemm.c and conv_depthwise.c: results are
 * the same to the last bit, whatever the number of images and threads.
 */
#include "lanes.h"
#include "patches.h"
#include "window.h"

#include <time.h>

#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_PIXELS 14 /* by 2 vectors of channels: 28 of 32 registers */
#elif defined(__AVX__)
#define TILE_PIXELS 6 /* 12 of 16 */
#else
#define TILE_PIXELS 5
#endif

enum {
    IMAGES_AT_ONCE = 4,          /* their activations should stay in the cache */
    FUSED_BYTES = 1 << 18,       /* of the area that two vectors of channels go through */
    PATCHES = 8 * TILE_PIXELS,   /* of the input, at a time */
    SPINS = 1000,                /* some 50 microseconds, before a waiting thread sleeps */
    AHEAD = 128 / sizeof(real),  /* elements to prefetch of the filters that are packed */
    STEP_NUMBERS = 2 + P_COUNT,  /* source, residual, and the parameters of the convolution */
};

typedef struct {
    conv_geometry s;
    int depthwise, plain; /* plain: 1x1 */
    int fused;            /* computed by the depthwise step that reads it, never stored */
    int64_t source, residual; /* slots: 0 is the chain's input, i + 1 the output of step i */
    int64_t activation;
    const real *w, *bias;
    int64_t place;       /* of the output in the arena */
    int64_t last_reader; /* step, or -1 */
} step;

enum { FROM_ROWS, TO_ROWS, PRODUCT, FILTER, PATCH };
typedef struct {
    int kind;
    int64_t step, output, tasks, runs, groups;
    window window;
} unit;

/* How many tasks of a unit threads have taken, and how many are done. */
typedef struct { int64_t taken, done; } progress;

typedef struct {
    int64_t count, outputs, batch;
    const int64_t *p;
    step *steps;
    unit *units;
    int64_t unit_count;
    progress *progress; /* of every unit of every chunk */
    int64_t arena_size, own_size, input_place;
    int64_t chunk; /* images */
    const tensor *in;
    tensor *out;
} chain;

/* What a task works on. */
typedef struct {
    int64_t first, images; /* of the chunk */
    real *arena, *own;     /* of all threads, of this one */
} place_of_work;

static inline int64_t vectors_of(int64_t channels) { return (channels + LANES - 1) / LANES; }
static inline int64_t pixels_of(const step *s) { return s->s.out_h * s->s.out_w; }

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spin, then sleep, until all tasks are done; not for threads that took none. */
static void wait_for(const progress *p, int64_t tasks) {
    for (int spins = 0; __atomic_load_n(&p->done, __ATOMIC_ACQUIRE) < tasks; spins++)
        if (spins < SPINS) pause_briefly();
        else nanosleep(&(struct timespec){0, 50000}, NULL);
}

static inline int64_t next_task(progress *p) {
    return __atomic_fetch_add(&p->taken, 1, __ATOMIC_RELAXED);
}

/* ---- Products ------------------------------------------------------------------------------- */

/* Some pixels, or patches of them, times one or two vectors of filters. */
typedef struct {
    int64_t depth, block; /* channels read, and elements from one vector of them to the next */
    int64_t out_block;
    vec floor, ceiling, bias[2];
    const real *weights;
} product;

/* Pixel p of the tile is x[p * LANES] and goes to out[places[p]]; `residual` is as `out`. */
static inline __attribute__((always_inline)) void
product_tile(const int pixels, const int vectors, const product *q, const real *x,
             const real *residual, const int64_t *places, real *out) {
    vec sums[TILE_PIXELS][2];
#pragma GCC unroll 16
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) sums[p][j] = q->bias[j];
    const real *w = q->weights;
    for (int64_t k = 0; k < q->depth; k += LANES, x += q->block) {
        const int64_t n = min64(LANES, q->depth - k);
        for (int64_t l = 0; l < n; l++, w += vectors * LANES) {
            vec right[2];
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) right[j] = load(w + j * LANES);
#pragma GCC unroll 16
            for (int p = 0; p < pixels; p++) {
                const vec element = broadcast(x[p * LANES + l]);
#pragma GCC unroll 2
                for (int j = 0; j < vectors; j++) sums[p][j] += element * right[j];
            }
        }
    }
#pragma GCC unroll 16
    for (int p = 0; p < pixels; p++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) {
            vec v = choose(sums[p][j] < q->floor, q->floor, sums[p][j]); /* NaN stays */
            v = choose(v > q->ceiling, q->ceiling, v);
            const int64_t place = places[p] + j * q->out_block;
            store(out + place, residual ? load(residual + place) + v : v);
        }
}

static void product_pixels(int64_t n, int64_t vectors, const product *q, const real *x,
                           const real *residual, const int64_t *places, real *out) {
    if (vectors == 2) {
        FOR_PIXELS(n, TILE_PIXELS, product_tile, 2, q, x, residual, places, out)
    } else {
        FOR_PIXELS(n, TILE_PIXELS, product_tile, 1, q, x, residual, places, out)
    }
}

/* Element k of filter f of `vectors` vectors of filters at target[k * vectors * LANES + f]. */
static void pack_filters(const real *w, int64_t depth, int64_t filters, int64_t first,
                         int64_t vectors, real *target) {
    for (int64_t v = 0; v < vectors; v++) {
        const int64_t f = first + v * LANES, there = min64(filters - f, LANES);
        for (int64_t k = 0; k < depth; k += LANES) {
            const int64_t n = min64(LANES, depth - k);
            vec packed[LANES];
            for (int64_t i = 0; i < there; i++) /* each row in a page of its own */
                __builtin_prefetch(w + (f + i) * depth + k + AHEAD);
            read_pixels(w + f * depth + k, depth, there, n, w + filters * depth, packed);
            for (int64_t l = 0; l < n; l++)
                store(target + ((k + l) * vectors + v) * LANES, packed[l]);
        }
    }
}

static vec bias_of(const step *q, int64_t first) {
    vec v = {0};
    for (int64_t l = 0; q->bias && l < min64(LANES, q->s.filters - first); l++)
        v[l] = q->bias[first + l];
    return v;
}

/* Elements of a filter. */
static int64_t depth_of(const step *q) {
    return q->s.channels / q->s.groups * q->s.kernel_h * q->s.kernel_w;
}

static int64_t panel_size(const step *q) { return 2 * LANES * depth_of(q); }

/* Vectors [2 group, 2 group + vectors) of the filters of a step, packed into `panel`; `block`,
 * `out_block`: elements from one vector of what is multiplied and of the results to the next. */
static product prepare(const step *q, int64_t group, int64_t vectors, int64_t block,
                       int64_t out_block, real *panel) {
    const int64_t first = 2 * group * LANES;
    pack_filters(q->w, depth_of(q), q->s.filters, first, vectors, panel);
    product r = {.depth = depth_of(q), .block = block, .out_block = out_block, .weights = panel,
                 .floor = broadcast(q->activation == NO_ACTIVATION ? -INFINITY : 0),
                 .ceiling = broadcast(q->activation == RELU6 ? 6 : INFINITY)};
    for (int64_t v = 0; v < vectors; v++) r.bias[v] = bias_of(q, first + v * LANES);
    return r;
}

static real *slot(const chain *c, real *arena, int64_t number, int64_t image) {
    if (number == 0) {
        const tensor *x = &c->in[0];
        return arena + c->input_place +
               image * round_up(x->shape[1], LANES) * x->shape[2] * x->shape[3];
    }
    const step *q = &c->steps[number - 1];
    return arena + q->place + image * round_up(q->s.filters, LANES) * pixels_of(q);
}

static void run_product(const chain *c, const unit *u, int64_t task, place_of_work here) {
    const step *q = &c->steps[u->step];
    const int64_t run = task % u->runs, group = task / u->runs, pixels = pixels_of(q);
    const int64_t vectors = min64(2, vectors_of(q->s.filters) - 2 * group);
    const int64_t first = run * pixels / u->runs, size = (run + 1) * pixels / u->runs - first;
    const int64_t tiles = (size + TILE_PIXELS - 1) / TILE_PIXELS;
    const int64_t from = group * 2 * pixels * LANES;
    const product r = prepare(q, group, vectors, pixels * LANES, pixels * LANES, here.own);
    int64_t places[TILE_PIXELS];
    for (int64_t image = 0; image < here.images; image++) {
        const real *x = slot(c, here.arena, q->source, image);
        const real *residual =
            q->residual < 0 ? NULL : slot(c, here.arena, q->residual, image) + from;
        real *out = slot(c, here.arena, u->step + 1, image) + from;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t a = first + t * size / tiles, n = first + (t + 1) * size / tiles - a;
            for (int64_t i = 0; i < n; i++) places[i] = (a + i) * LANES;
            product_pixels(n, vectors, &r, x + a * LANES, residual, places, out);
        }
    }
}

/* ---- Depthwise filters ---------------------------------------------------------------------- */

/* The rows of the image that stand in an area, and where: row y at row y - start of the area. */
typedef struct { int64_t start, from, to, rows; } rows_read;

/* Which rows the outputs of a band read; the others of the area, and the columns beside the image,
 * become zero in `vectors` areas. */
static rows_read clear_around(const window *w, int64_t first, int64_t outputs, int64_t vectors,
                              real *area) {
    const int64_t rows = (outputs - 1) * w->step_h + (w->kernel_h - 1) * w->dilation_h + 1;
    const int64_t start = first * w->step_h - w->top, after = w->pitch - w->left - w->width;
    const int64_t from = min64(max64(start, 0), w->height);
    const int64_t to = max64(min64(start + rows, w->height), from);
    for (int64_t v = 0; v < vectors; v++)
        for (int64_t r = 0; r < rows; r++) {
            real *row = area + v * w->area + r * w->pitch * LANES;
            const int inside = r + start >= from && r + start < to;
            const int64_t before = inside ? w->left : w->pitch;
            memset(row, 0, (size_t)(before * LANES) * sizeof(real));
            if (inside && after > 0)
                memset(row + (w->left + w->width) * LANES, 0,
                       (size_t)(after * LANES) * sizeof(real));
        }
    return (rows_read){start, from, to, rows};
}

/* The 1x1 step before, computed where the depthwise one reads it. */
static void expand_rows(const window *w, rows_read rows, int64_t vectors, const product *r,
                        const real *x, real *area) {
    const int64_t first = rows.from * w->width, size = (rows.to - rows.from) * w->width;
    const int64_t tiles = (size + TILE_PIXELS - 1) / TILE_PIXELS;
    int64_t places[TILE_PIXELS], column = 0;
    int64_t place = ((rows.from - rows.start) * w->pitch + w->left) * LANES;
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t a = first + t * size / tiles, n = first + (t + 1) * size / tiles - a;
        for (int64_t i = 0; i < n; i++) {
            places[i] = place;
            place += LANES;
            if (++column == w->width) column = 0, place += (w->pitch - w->width) * LANES;
        }
        product_pixels(n, vectors, r, x + a * LANES, NULL, places, area);
    }
}

static void copy_rows(const window *w, rows_read rows, int64_t vectors, const real *x, real *area) {
    const int64_t block = w->height * w->width * LANES;
    for (int64_t v = 0; v < vectors; v++)
        for (int64_t y = rows.from; y < rows.to; y++)
            memcpy(area + v * w->area + ((y - rows.start) * w->pitch + w->left) * LANES,
                   x + v * block + y * w->width * LANES,
                   (size_t)(w->width * LANES) * sizeof(real));
}

static void run_filter(const chain *c, const unit *u, int64_t task, place_of_work here) {
    const step *q = &c->steps[u->step];
    const window *w = &u->window;
    const int64_t band = task % w->bands, group = task / w->bands;
    const int64_t vectors = min64(2, vectors_of(q->s.filters) - 2 * group);
    const int64_t first = band * w->out_h / w->bands;
    const int64_t outputs = (band + 1) * w->out_h / w->bands - first;
    const step *before = q->source ? &c->steps[q->source - 1] : NULL;
    const int64_t source = before && before->fused ? before->source : q->source;
    real *area = here.own, *filters = area + 2 * w->area, *panel = filters + panel_size(q);
    for (int64_t v = 0; v < vectors; v++)
        pack_filters(q->w, w->taps, q->s.filters, (2 * group + v) * LANES, 1,
                     filters + v * w->taps * LANES);
    product expand = {0};
    if (source != q->source)
        expand = prepare(before, group, vectors, w->height * w->width * LANES, w->area, panel);
    const rows_read rows = clear_around(w, first, outputs, vectors, area);
    ending end = make_ending((int)q->activation);
    for (int64_t image = 0; image < here.images; image++) {
        const real *x = slot(c, here.arena, source, image);
        if (source != q->source) expand_rows(w, rows, vectors, &expand, x, area);
        else copy_rows(w, rows, vectors, x + 2 * group * w->height * w->width * LANES, area);
        real *y = slot(c, here.arena, u->step + 1, image);
        for (int64_t v = 0; v < vectors; v++) {
            end.start = bias_of(q, (2 * group + v) * LANES);
            correlate(w, area + v * w->area, filters + v * w->taps * LANES, end, 0, outputs,
                      y + ((2 * group + v) * w->out_h + first) * w->out_w * LANES);
        }
    }
}

/* ---- Patches of the input ------------------------------------------------------------------- */

/* Patches of pixels [first, first + size) of the batch -> vectors of LANES of their rows, one after
 * the other: element r of patch p at patches[(r / LANES * size + p) * LANES + r % LANES]. */
static void patches_in_lanes(const plan *q, const real *x, int64_t first, int64_t size,
                             real *rows, real *patches) {
    for (int64_t row = 0; row < q->rows; row += LANES) {
        const int64_t there = min64(LANES, q->rows - row);
        for (int64_t i = 0; i < there; i++)
            unroll_row(q, x, row + i, first, size, rows + i * PATCHES);
        /* Writes beyond, where the next vectors will stand. */
        to_lanes(rows, PATCHES, there, size, rows + (LANES + 1) * PATCHES,
                 patches + row / LANES * size * LANES);
    }
}

static void run_patches(const chain *c, const unit *u, int64_t task, place_of_work here) {
    const step *q = &c->steps[u->step];
    const plan all = make_plan(&q->s);
    const int64_t pixels = pixels_of(q), pieces = (pixels + PATCHES - 1) / PATCHES;
    real *rows = here.own, *patches = rows + (LANES + 1) * PATCHES;
    real *panels = patches + (round_up(all.rows, LANES) * PATCHES + LANES * LANES);
    product r[max64(u->groups, 1)];
    for (int64_t group = 0; group < u->groups; group++)
        r[group] = prepare(q, group, min64(2, vectors_of(q->s.filters) - 2 * group), 0,
                           pixels * LANES, panels + group * panel_size(q));
    int64_t places[TILE_PIXELS];
    for (int64_t image = 0; image < here.images; image++)
        for (int64_t k = task * pieces / u->runs; k < (task + 1) * pieces / u->runs; k++) {
            const int64_t first = k * pixels / pieces, size = (k + 1) * pixels / pieces - first;
            const int64_t tiles = (size + TILE_PIXELS - 1) / TILE_PIXELS;
            patches_in_lanes(&all, c->in[0].data, (here.first + image) * pixels + first, size, rows,
                             patches);
            for (int64_t group = 0; group < u->groups; group++) {
                real *y = slot(c, here.arena, u->step + 1, image) + 2 * group * pixels * LANES;
                r[group].block = size * LANES;
                for (int64_t t = 0; t < tiles; t++) {
                    const int64_t a = t * size / tiles, n = (t + 1) * size / tiles - a;
                    for (int64_t i = 0; i < n; i++) places[i] = (first + a + i) * LANES;
                    product_pixels(n, min64(2, vectors_of(q->s.filters) - 2 * group), &r[group],
                                   patches + a * LANES, NULL, places, y);
                }
            }
        }
}

/* ---- In and out ----------------------------------------------------------------------------- */

static void run_from_rows(const chain *c, int64_t v, place_of_work here) {
    const tensor *x = &c->in[0];
    const int64_t channels = x->shape[1], pixels = x->shape[2] * x->shape[3];
    const int64_t there = min64(LANES, channels - v * LANES), whole = pixels / LANES * LANES;
    const real *data = x->data, *end = data + count(x);
    for (int64_t image = 0; image < here.images; image++) {
        const real *rows = data + ((here.first + image) * channels + v * LANES) * pixels;
        real *target = slot(c, here.arena, 0, image) + v * pixels * LANES;
        to_lanes(rows, pixels, there, whole, end, target);
        if (pixels > whole) { /* to_lanes writes whole vectors of pixels */
            vec rest[LANES];
            read_pixels(rows + whole, pixels, there, pixels - whole, end, rest);
            for (int64_t l = 0; l < pixels - whole; l++)
                store(target + (whole + l) * LANES, rest[l]);
        }
    }
}

static void run_to_rows(const chain *c, const unit *u, int64_t v, place_of_work here) {
    const step *q = &c->steps[u->step];
    const int64_t pixels = pixels_of(q);
    for (int64_t image = 0; image < here.images; image++) {
        const real *source = slot(c, here.arena, u->step + 1, image) + v * pixels * LANES;
        real *rows = (real *)c->out[u->output].data +
                     ((here.first + image) * q->s.filters + v * LANES) * pixels;
        if (pixels < LANES) { /* from_lanes reads whole vectors of pixels */
            memcpy(here.own, source, (size_t)(pixels * LANES) * sizeof(real));
            source = here.own;
        }
        from_lanes(source, pixels, rows, pixels, min64(LANES, q->s.filters - v * LANES));
    }
}

/* ---- Plan ----------------------------------------------------------------------------------- */

static const int64_t *step_numbers(const int64_t *p, int64_t i) {
    return p + 2 + p[1] + i * STEP_NUMBERS;
}

static int is_output(const int64_t *p, int64_t i) {
    for (int64_t k = 0; k < p[1]; k++)
        if (p[2 + k] == i) return 1;
    return 0;
}

static tensor slot_shape(const tensor *in, const step *steps, int64_t number) {
    if (number == 0) return in[0];
    const conv_geometry *s = &steps[number - 1].s;
    tensor t = {NULL, 4, {s->batch, s->filters, s->out_h, s->out_w}, 0};
    return t;
}

/* The sizes of every step; refuses what does not fit together. */
static int read_steps(const tensor *in, const int64_t *p, step *steps, char *error) {
    const tensor *next = in + 1;
    for (int64_t i = 0; i < p[0]; i++) {
        const int64_t *numbers = step_numbers(p, i);
        step *q = &steps[i];
        *q = (step){.source = numbers[0], .residual = numbers[1], .last_reader = -1};
        const int64_t *convolution = numbers + 2;
        const tensor x = slot_shape(in, steps, q->source), *w = next++;
        if (KERNEL(conv_geometry_of)(&x, w, convolution, &q->s, error)) return 1;
        const conv_geometry *s = &q->s;
        q->activation = convolution[P_ACTIVATION];
        q->depthwise = s->groups > 1;
        q->plain = !q->depthwise && s->kernel_h * s->kernel_w * s->stride_h * s->stride_w == 1 &&
                   s->out_h == s->height && s->out_w == s->width;
        if (q->depthwise ? s->groups != s->channels || s->filters != s->channels
                         : !q->plain && q->source > 0)
            REFUSE("conv2d: a chain takes 1x1 filters, and one filter a channel");
        if (!q->plain && q->residual >= 0) REFUSE("conv2d: only products add a residual");
        q->w = w->data;
        if (convolution[P_BIAS]) {
            const tensor *b = next++;
            if (b->ndim != 1 || b->shape[0] != q->s.filters)
                REFUSE("conv2d: the bias must have %lld elements, one a filter",
                       (long long)q->s.filters);
            q->bias = b->data;
        }
        if (q->residual < 0) continue;
        const tensor r = slot_shape(in, steps, q->residual), y = slot_shape(in, steps, i + 1);
        for (int d = 0; d < 4; d++)
            if (r.ndim != 4 || r.shape[d] != y.shape[d])
                REFUSE("conv2d: cannot add images of %lldx%lldx%lld and %lldx%lldx%lld",
                       (long long)r.shape[1], (long long)r.shape[2], (long long)r.shape[3],
                       (long long)y.shape[1], (long long)y.shape[2], (long long)y.shape[3]);
    }
    return 0;
}

/* Which products only the depthwise step right after them reads. */
static void mark_fused(const int64_t *p, step *steps) {
    for (int64_t i = 0; i < p[0]; i++) {
        if (steps[i].source) steps[steps[i].source - 1].last_reader = i;
        if (steps[i].residual > 0) steps[steps[i].residual - 1].last_reader = i;
    }
    for (int64_t i = 0; i + 1 < p[0]; i++) {
        const step *after = &steps[i + 1];
        int readers = 0;
        for (int64_t k = i + 1; k < p[0]; k++)
            readers += (steps[k].source == i + 1) + (steps[k].residual == i + 1);
        steps[i].fused = steps[i].plain && steps[i].residual < 0 && after->depthwise &&
                         after->source == i + 1 && readers == 1 && !is_output(p, i);
    }
}

/* Whether a step reads the input as it reads the outputs of others. */
static int input_in_lanes(const chain *c) {
    for (int64_t i = 0; i < c->count; i++) {
        const step *q = &c->steps[i];
        if (!q->residual || (!q->source && (q->plain || q->depthwise))) return 1;
    }
    return 0;
}

static int64_t slot_size(const chain *c, int64_t number) {
    if (number == 0 && !input_in_lanes(c)) return 0;
    const tensor t = slot_shape(c->in, c->steps, number);
    return c->chunk * round_up(t.shape[1], LANES) * t.shape[2] * t.shape[3];
}

/* The first place in the arena where nothing lives that step `reader` or a later one reads. */
static int64_t find_place(const chain *c, int64_t from, int64_t size, int64_t input_reader) {
    int64_t place = 0;
    for (int again = 1; again;) {
        again = 0;
        for (int64_t number = 0; number < from; number++) {
            const int64_t reader = number ? c->steps[number - 1].last_reader : input_reader;
            const int64_t other = number ? c->steps[number - 1].place : c->input_place;
            const int64_t end = other + slot_size(c, number);
            /* The step that reads it last writes its own output while it still reads. */
            if ((number && c->steps[number - 1].fused) || reader < from - 1) continue;
            if (place < end && other < place + size) place = end, again = 1;
        }
    }
    return place;
}

static void place_slots(chain *c) {
    int64_t input_reader = -1;
    for (int64_t i = 0; i < c->count; i++) {
        step *q = &c->steps[i];
        if (!q->source || !q->residual) input_reader = i;
        /* What a fused product reads is read by the step after it. */
        if (q->fused && q->source == 0) input_reader = i + 1;
        if (q->fused && q->source) {
            step *before = &c->steps[q->source - 1];
            before->last_reader = max64(before->last_reader, i + 1);
        }
    }
    c->input_place = 0, c->arena_size = slot_size(c, 0);
    for (int64_t i = 0; i < c->count; i++) {
        step *q = &c->steps[i];
        if (q->fused) continue;
        const int64_t size = slot_size(c, i + 1);
        q->place = find_place(c, i + 1, size, input_reader);
        c->arena_size = max64(c->arena_size, q->place + size);
    }
}

static void add_unit(chain *c, unit u) {
    c->units[c->unit_count++] = u;
}

/* More bands than the cache asks for, where threads would have nothing to do. */
static window divide(window w, int64_t others, int64_t threads) {
    const int64_t wanted = (3 * threads + others - 1) / max64(others, 1);
    const int64_t most = max64(w.out_h * w.step_h / (4 * w.kernel_h), 1);
    w.bands = max64(w.bands, min64(min64(wanted, most), w.out_h));
    return w;
}

static void plan_units(chain *c, int64_t threads) {
    if (input_in_lanes(c))
        add_unit(c, (unit){.kind = FROM_ROWS, .groups = vectors_of(c->in[0].shape[1])});
    for (int64_t i = 0; i < c->count; i++) {
        const step *q = &c->steps[i];
        if (q->fused) continue;
        unit u = {.kind = q->depthwise ? FILTER : q->plain ? PRODUCT : PATCH, .step = i,
                  .groups = (vectors_of(q->s.filters) + 1) / 2, .runs = 1};
        if (q->depthwise) {
            u.window = divide(forward_window(&q->s, FUSED_BYTES / 2), u.groups, threads);
            const int fused = q->source && c->steps[q->source - 1].fused;
            c->own_size = max64(c->own_size,
                                2 * u.window.area + panel_size(q) +
                                    (fused ? panel_size(&c->steps[q->source - 1]) : 0));
        } else if (!q->plain) {
            const int64_t depth = round_up(depth_of(q), LANES);
            c->own_size = max64(c->own_size, (LANES + 1 + depth) * PATCHES + LANES * LANES +
                                                 u.groups * panel_size(q));
            u.runs = max64(min64(4 * threads, pixels_of(q) / PATCHES), 1);
        } else {
            const int64_t tiles = (pixels_of(q) + TILE_PIXELS - 1) / TILE_PIXELS;
            c->own_size = max64(c->own_size, panel_size(q));
            u.runs = max64(min64((4 * threads + u.groups - 1) / max64(u.groups, 1), tiles / 4), 1);
        }
        add_unit(c, u);
        for (int64_t k = 0; k < c->outputs; k++)
            if (c->p[2 + k] == i)
                add_unit(c, (unit){.kind = TO_ROWS, .step = i, .output = k,
                                   .groups = vectors_of(q->s.filters)});
    }
    for (int64_t k = 0; k < c->unit_count; k++) {
        unit *u = &c->units[k];
        u->tasks = u->kind == PATCH ? u->runs
                   : u->kind == FILTER ? u->groups * u->window.bands
                   : u->kind == PRODUCT ? u->groups * u->runs : u->groups;
    }
}

/* What every thread does: all steps for some images at a time. */
static void work(chain *c, place_of_work here) {
    progress *now = c->progress;
    for (here.first = 0; here.first < c->batch; here.first += c->chunk) {
        here.images = min64(c->chunk, c->batch - here.first);
        for (int64_t k = 0; k < c->unit_count; k++, now++) {
            const unit *u = &c->units[k];
            for (int64_t t; (t = next_task(now)) < u->tasks;) {
                switch (u->kind) {
                case FROM_ROWS: run_from_rows(c, t, here); break;
                case TO_ROWS: run_to_rows(c, u, t, here); break;
                case PRODUCT: run_product(c, u, t, here); break;
                case PATCH: run_patches(c, u, t, here); break;
                default: run_filter(c, u, t, here);
                }
                __atomic_fetch_add(&now->done, 1, __ATOMIC_RELEASE);
            }
            wait_for(now, u->tasks);
        }
    }
}

static int run_chain(chain *c) {
    const int64_t threads = thread_count();
    c->chunk = max64(min64(c->batch, IMAGES_AT_ONCE), 1);
    place_slots(c);
    c->own_size = LANES * LANES;
    plan_units(c, threads);
    const int64_t chunks = (c->batch + c->chunk - 1) / c->chunk;
    c->progress = calloc((size_t)max64(chunks * c->unit_count, 1), sizeof *c->progress);
    const scratch memory = take_scratch(c->arena_size + threads * c->own_size);
    const int failed = !c->progress || !memory.data;
    if (!failed) {
#pragma omp parallel
        work(c, (place_of_work){0, 0, memory.data,
                                memory.data + c->arena_size + thread_number() * c->own_size});
    }
    if (memory.data) give_scratch(memory);
    free(c->progress);
    return failed;
}

/* conv2d_chain(x, w and perhaps b of every step) -> the outputs of some steps
 *   p = {steps, outputs, the step of every output, and for every step: source, residual (-1: none),
 *        the parameters of its convolution as in conv.c} */
EXPORT int KERNEL(conv2d_chain_shape)(SHAPE_ARGUMENTS) {
    step *steps = malloc((size_t)p[0] * sizeof *steps);
    if (!steps) REFUSE("conv2d: out of memory");
    const int failed = read_steps(in, p, steps, error);
    for (int64_t k = 0; k < p[1] && !failed; k++) {
        const tensor y = slot_shape(in, steps, p[2 + k] + 1);
        set_shape(&out[k], 4, y.shape);
    }
    free(steps);
    return failed;
}

EXPORT int KERNEL(conv2d_chain)(KERNEL_ARGUMENTS) {
    chain c = {.count = p[0], .outputs = p[1], .batch = in[0].shape[0], .p = p, .in = in,
               .out = out};
    c.steps = malloc((size_t)p[0] * sizeof *c.steps);
    c.units = malloc((size_t)(1 + p[0] + p[1]) * sizeof *c.units);
    int failed = !c.steps || !c.units;
    if (failed) snprintf(error, ERROR_SIZE, "conv2d: out of memory");
    else failed = read_steps(in, p, c.steps, error);
    if (!failed) {
        mark_fused(p, c.steps);
        failed = run_chain(&c);
        if (failed) snprintf(error, ERROR_SIZE, "conv2d: out of memory");
    }
    free(c.steps), free(c.units);
    return failed;
}
