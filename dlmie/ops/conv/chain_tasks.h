/* What the threads of a chain of convolutions do (conv_chain.c): the steps, and their tasks.
 *
 * Activations stand as vectors of LANES channels, pixel after pixel: the element of channel c, pixel p
 * of an image is y[(c / LANES * pixels + p) * LANES + c % LANES].
 *
 * The gradient of an activation needs its mask: where it let its argument through.  Masks are bytes, -1
 * or 0, in blocks of BLOCK channels whatever LANES is: that of channel c, pixel p of a step stands at
 * mask[(c / BLOCK * pixels + p) * BLOCK + c % BLOCK].
 */
#ifndef DLMIE_CHAIN_TASKS_H
#define DLMIE_CHAIN_TASKS_H

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
    IMAGES_AT_ONCE = 4,          /* filters are packed once for them */
    FUSED_BYTES = 1 << 18,       /* of the area that two vectors of channels go through */
    PATCHES = 8 * TILE_PIXELS,   /* of the input, at a time */
    SPINS = 1000,                /* some 50 microseconds, before a waiting thread sleeps */
    AHEAD = 128 / sizeof(real),  /* elements to prefetch of the filters that are packed */
    BLOCK = 16,                  /* channels of a mask, or packed filters, that lie together */
    PANEL_PITCH = LANES == BLOCK ? BLOCK : 2 * LANES, /* of filters that a task packs */
};

typedef struct {
    conv_geometry s;
    int depthwise, plain; /* plain: 1x1 */
    int fused;            /* computed by the depthwise step that reads it, never stored */
    int transposed;       /* the transpose of a convolution whose output it reads */
    int packed;           /* w: blocks of BLOCK filters, each channel after channel */
    int64_t source, residual; /* slots: 0 is the chain's input, i + 1 the output of step i */
    int64_t activation;
    const real *w, *bias;
    int64_t mask;        /* place of its mask among those of an image, or -1 */
    int64_t place;       /* of the output in the arena */
    int64_t last_reader; /* step, or -1 */
} step;

enum { FROM_ROWS, TO_ROWS, PRODUCT, FILTER, PATCH };
typedef struct {
    int kind;
    int64_t step, output, tasks, runs, groups;
    window window;
} unit;

typedef struct {
    int64_t count, outputs, batch;
    const int64_t *wanted; /* the step of every output */
    step *steps;
    unit *units;
    int64_t unit_count;
    int64_t threads;
    int64_t apart, chunks; /* images that threads compute each alone, in so many parts */
    int64_t taken;         /* of these parts */
    int64_t chunk;         /* images at a time, at most */
    int64_t *progress;     /* on those that are left: tasks done and taken (next_task) of every unit */
    int64_t arena_size, own_size, input_place;
    int8_t *masks; /* NULL: none are needed */
    int64_t masks_size, input_mask; /* of an image; place of the input's own mask, or -1 */
    int gradient;  /* masks are applied, not recorded */
    tensor in, *out;
} chain;

/* What a task works on. */
typedef struct {
    int64_t first, images;
    real *arena, *own; /* of all who work on the images, of this thread */
} place_of_work;

static inline int64_t vectors_of(int64_t channels) { return (channels + LANES - 1) / LANES; }
static inline int64_t pixels_of(const step *s) { return s->s.out_h * s->s.out_w; }

/* The convolution that a transposed one belongs to, and the other way round. */
static inline conv_geometry transposed_geometry(conv_geometry s) {
    conv_geometry t = s;
    t.channels = s.filters, t.height = s.out_h, t.width = s.out_w;
    t.filters = s.channels, t.out_h = s.height, t.out_w = s.width;
    return t;
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spin, then sleep, until all tasks are done; not for threads that took none. */
static void wait_for(const int64_t *done, int64_t tasks) {
    for (int spins = 0; __atomic_load_n(done, __ATOMIC_ACQUIRE) < tasks; spins++)
        if (spins < SPINS) pause_briefly();
        else nanosleep(&(struct timespec){0, 50000}, NULL);
}

/* A task of a unit, or -1; `taken` counts those taken of each thread's share.  A thread's own come
 * first: they read what its tasks of the unit before wrote, which its cache still holds.  Then it helps
 * those that are late. */
static int64_t next_task(int64_t *taken, int64_t tasks, int64_t threads) {
    for (int64_t i = 0, owner = thread_number(); i < threads; i++, owner = (owner + 1) % threads) {
        const int64_t first = owner * tasks / threads, end = (owner + 1) * tasks / threads;
        const int64_t task = first + __atomic_fetch_add(&taken[owner], 1, __ATOMIC_RELAXED);
        if (task < end) return task;
    }
    return -1;
}

/* ---- Masks of activations ------------------------------------------------------------------- */

/* That of LANES channels, pixel after pixel, and the bytes from one vector of channels to the next. */
typedef struct {
    int8_t *first; /* NULL: none */
    int64_t next;
    int applies; /* to a gradient, instead of being recorded */
} mask;

_Static_assert(BLOCK % LANES == 0, "a vector of channels lies in one block");

/* That of a step of so many pixels, from a channel on; `place` is the step's. */
static mask mask_of(const chain *c, int64_t place, int64_t pixels, int64_t image, int64_t channel) {
    if (!c->masks || place < 0) return (mask){0};
    int8_t *all = c->masks + image * c->masks_size + place;
    return (mask){all + channel / BLOCK * BLOCK * pixels + channel % BLOCK,
                  LANES == BLOCK ? BLOCK * pixels : LANES, c->gradient};
}

static inline mask from_pixel(mask m, int64_t pixel) {
    if (m.first) m.first += pixel * BLOCK;
    return m;
}

typedef int8_t byte_vec __attribute__((vector_size(LANES)));

/* Which lanes of an activation's result passed. */
static inline void record_mask(int8_t *there, vec ceiling, const real *y) {
    const vec v = load(y);
    const byte_vec passed = __builtin_convertvector((v > (vec){0}) & (v < ceiling), byte_vec);
    memcpy(there, &passed, LANES);
}

/* Zero where they did not, in a gradient. */
static inline void apply_mask(const int8_t *there, real *g) {
    byte_vec passed;
    memcpy(&passed, there, LANES);
    store(g, choose(__builtin_convertvector(passed, index_vec), load(g), (vec){0}));
}

/* Either, for a vector of a pixel. */
static inline void use_mask(mask m, int64_t pixel, int64_t vector, vec ceiling, real *y) {
    int8_t *there = m.first + pixel * BLOCK + vector * m.next;
    if (m.applies) apply_mask(there, y);
    else record_mask(there, ceiling, y);
}

/* The same for `pixels` vectors in a row. */
static void use_mask_in_row(mask m, int64_t pixels, vec ceiling, real *y) {
    for (int64_t p = 0; m.first && p < pixels; p++) use_mask(m, p, 0, ceiling, y + p * LANES);
}

/* ---- Products ------------------------------------------------------------------------------- */

/* Some pixels, or patches of them, times one or two vectors of filters. */
typedef struct {
    int64_t depth, block; /* channels read, and elements from one vector of them to the next */
    int64_t out_block;
    vec floor, ceiling, bias[2];
    const real *weights;
    int64_t channel, vector; /* elements from one channel's to the next, one vector's to the other */
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
    const int64_t channel = PANEL_PITCH == BLOCK ? BLOCK : q->channel, vector = q->vector;
    for (int64_t k = 0; k < q->depth; k += LANES, x += q->block) {
        const int64_t n = min64(LANES, q->depth - k);
        for (int64_t l = 0; l < n; l++, w += channel) {
            vec right[2];
#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++) right[j] = load(w + j * vector);
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
                           const real *residual, mask m, const int64_t *places, real *out) {
    if (vectors == 2) {
        FOR_PIXELS(n, TILE_PIXELS, product_tile, 2, q, x, residual, places, out)
    } else {
        FOR_PIXELS(n, TILE_PIXELS, product_tile, 1, q, x, residual, places, out)
    }
    for (int64_t p = 0; m.first && p < n; p++)
        for (int64_t j = 0; j < vectors; j++)
            use_mask(m, p, j, q->ceiling, out + places[p] + j * q->out_block);
}

/* Element k of filter first + l at target[k * pitch + l], for a vector of filters. */
static void pack_filters(const real *w, int64_t depth, int64_t filters, int64_t first,
                         int64_t pitch, real *target) {
    const int64_t there = min64(filters - first, LANES);
    for (int64_t k = 0; k < depth; k += LANES) {
        const int64_t n = min64(LANES, depth - k);
        vec packed[LANES];
        for (int64_t i = 0; i < there; i++) /* each row in a page of its own */
            __builtin_prefetch(w + (first + i) * depth + k + AHEAD);
        read_pixels(w + first * depth + k, depth, there, n, w + filters * depth, packed);
        for (int64_t l = 0; l < n; l++) store(target + (k + l) * pitch, packed[l]);
    }
}

/* The same with PANEL_PITCH for some vectors of filters that are the columns of w (depth x filters), as those
 * of a transposed convolution are; `vector`: elements from one of them to the next. */
static void pack_columns(const real *w, int64_t depth, int64_t filters, int64_t first,
                         int64_t vectors, int64_t vector, real *target) {
    const int64_t there = min64(filters - first, vectors * LANES);
    for (int64_t k = 0; k < depth; k++) {
        const real *row = w + k * filters + first;
        for (int64_t v = 0; v < vectors; v++) {
            vec some = {0};
            if (there >= (v + 1) * LANES) some = load(row + v * LANES);
            else memcpy(&some, row + v * LANES, (size_t)(there - v * LANES) * sizeof(real));
            store(target + k * PANEL_PITCH + v * vector, some);
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
    const int64_t first = 2 * group * LANES, depth = depth_of(q);
    product r = {.depth = depth, .block = block, .out_block = out_block,
                 .floor = broadcast(q->activation == NO_ACTIVATION ? -INFINITY : 0),
                 .ceiling = broadcast(q->activation == RELU6 ? 6 : INFINITY)};
    for (int64_t v = 0; v < vectors; v++) r.bias[v] = bias_of(q, first + v * LANES);
    r.vector = LANES == BLOCK ? BLOCK * depth : LANES;
    if (q->packed) {
        r.weights = q->w + first / BLOCK * BLOCK * depth + first % BLOCK, r.channel = BLOCK;
        return r;
    }
    r.weights = panel, r.channel = PANEL_PITCH;
    if (q->transposed)
        pack_columns(q->w, depth, q->s.filters, first, vectors, r.vector, panel);
    else
        for (int64_t v = 0; v < vectors; v++)
            pack_filters(q->w, depth, q->s.filters, first + v * LANES, PANEL_PITCH,
                         panel + v * r.vector);
    return r;
}

static real *slot(const chain *c, real *arena, int64_t number, int64_t image) {
    if (number == 0) {
        const tensor *x = &c->in;
        return arena + c->input_place +
               image * round_up(x->shape[1], LANES) * x->shape[2] * x->shape[3];
    }
    const step *q = &c->steps[number - 1];
    return arena + q->place + image * round_up(q->s.filters, LANES) * pixels_of(q);
}

static void run_product(const chain *c, const unit *u, int64_t task, place_of_work here) {
    const step *q = &c->steps[u->step];
    const int64_t run = task / u->groups, group = task % u->groups, pixels = pixels_of(q);
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
        const mask m = mask_of(c, q->mask, pixels, here.first + image, 2 * group * LANES);
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t a = first + t * size / tiles, n = first + (t + 1) * size / tiles - a;
            for (int64_t i = 0; i < n; i++) places[i] = (a + i) * LANES;
            product_pixels(n, vectors, &r, x + a * LANES, residual, from_pixel(m, a), places, out);
        }
    }
}

/* ---- Depthwise filters ---------------------------------------------------------------------- */

/* The rows of the image that stand in an area, and where: row y at row y spread_h - start of it. */
typedef struct { int64_t start, from, to, rows; } rows_read;

/* Which rows the outputs of a band read; the others of the area, the columns beside the image, and
 * what lies between spread pixels become zero in `vectors` areas. */
static rows_read clear_around(const window *w, int64_t first, int64_t outputs, int64_t vectors,
                              real *area) {
    const int64_t rows = (outputs - 1) * w->step_h + (w->kernel_h - 1) * w->dilation_h + 1;
    const int64_t start = w->skip_h + first * w->step_h - w->top, spread = w->spread_h;
    const int64_t after = w->pitch - w->left - w->width;
    const int64_t from = min64((max64(start, 0) + spread - 1) / spread, w->height);
    const int64_t to = max64(min64((start + rows + spread - 1) / spread, w->height), from);
    for (int64_t v = 0; v < vectors; v++) {
        if (spread > 1 || w->spread_w > 1) {
            memset(area + v * w->area, 0, (size_t)(rows * w->pitch * LANES) * sizeof(real));
            continue;
        }
        for (int64_t r = 0; r < rows; r++) {
            real *row = area + v * w->area + r * w->pitch * LANES;
            const int inside = r + start >= from && r + start < to;
            const int64_t before = inside ? w->left : w->pitch;
            memset(row, 0, (size_t)(before * LANES) * sizeof(real));
            if (inside && after > 0)
                memset(row + (w->left + w->width) * LANES, 0,
                       (size_t)(after * LANES) * sizeof(real));
        }
    }
    return (rows_read){start, from, to, rows};
}

/* The 1x1 step before, computed where the depthwise one reads it: rows [from, to) of an image. */
static void expand_rows(const window *w, int64_t start, int64_t from, int64_t to, int64_t vectors,
                        const product *r, const real *x, mask m, real *area) {
    const int64_t first = from * w->width, size = (to - from) * w->width;
    const int64_t tiles = (size + TILE_PIXELS - 1) / TILE_PIXELS;
    const int64_t next_row = (w->spread_h * w->pitch - w->width * w->spread_w) * LANES;
    int64_t places[TILE_PIXELS], column = 0;
    int64_t place = ((from * w->spread_h - start) * w->pitch + w->left) * LANES;
    for (int64_t t = 0; t < tiles; t++) {
        const int64_t a = first + t * size / tiles, n = first + (t + 1) * size / tiles - a;
        for (int64_t i = 0; i < n; i++) {
            places[i] = place;
            place += w->spread_w * LANES;
            if (++column == w->width) column = 0, place += next_row;
        }
        product_pixels(n, vectors, r, x + a * LANES, NULL, from_pixel(m, a), places, area);
    }
}

static void copy_rows(const window *w, rows_read rows, int64_t vectors, const real *x, real *area) {
    const int64_t block = w->height * w->width * LANES;
    for (int64_t v = 0; v < vectors; v++)
        for (int64_t y = rows.from; y < rows.to; y++) {
            const real *source = x + v * block + y * w->width * LANES;
            real *row = area + v * w->area +
                        ((y * w->spread_h - rows.start) * w->pitch + w->left) * LANES;
            if (w->spread_w == 1) {
                memcpy(row, source, (size_t)(w->width * LANES) * sizeof(real));
                continue;
            }
            for (int64_t i = 0; i < w->width; i++)
                store(row + i * w->spread_w * LANES, load(source + i * LANES));
        }
}

/* The taps of a filter in the opposite order, as a transposed convolution has them. */
static void reverse_taps(int64_t taps, real *filter) {
    for (int64_t i = 0, j = taps - 1; i < j; i++, j--) {
        const vec tap = load(filter + i * LANES);
        store(filter + i * LANES, load(filter + j * LANES));
        store(filter + j * LANES, tap);
    }
}

/* Up to which row a band uses the mask of what it computes.  Bands overlap, and two threads must not
 * record the same byte: rows that the next band reads, from output `next_output` on, are that one's. */
static int64_t end_of_mask(const chain *c, const window *w, rows_read rows, int64_t next_output) {
    if (!c->masks || c->gradient || next_output == w->out_h) return rows.to;
    const int64_t next = next_output * w->step_h - w->top;
    return max64(min64(next, rows.to), rows.from);
}

static void run_filter(const chain *c, const unit *u, int64_t task, place_of_work here) {
    const step *q = &c->steps[u->step];
    const window *w = &u->window;
    const int64_t band = task / u->groups, group = task % u->groups;
    const int64_t vectors = min64(2, vectors_of(q->s.filters) - 2 * group);
    const int64_t first = band * w->out_h / w->bands;
    const int64_t outputs = (band + 1) * w->out_h / w->bands - first;
    const step *before = q->source ? &c->steps[q->source - 1] : NULL;
    const int64_t source = before && before->fused ? before->source : q->source;
    real *area = here.own, *filters = area + 2 * w->area, *panel = filters + panel_size(q);
    for (int64_t v = 0; v < vectors; v++) {
        real *filter = filters + v * w->taps * LANES;
        pack_filters(q->w, w->taps, q->s.filters, (2 * group + v) * LANES, LANES, filter);
        if (q->transposed) reverse_taps(w->taps, filter);
    }
    product expand = {0};
    if (source != q->source)
        expand = prepare(before, group, vectors, w->height * w->width * LANES, w->area, panel);
    const rows_read rows = clear_around(w, first, outputs, vectors, area);
    const int64_t masked = end_of_mask(c, w, rows, first + outputs);
    ending end = make_ending((int)q->activation);
    for (int64_t image = 0; image < here.images; image++) {
        const real *x = slot(c, here.arena, source, image);
        if (source == q->source) {
            copy_rows(w, rows, vectors, x + 2 * group * w->height * w->width * LANES, area);
        } else {
            const mask m = mask_of(c, before->mask, w->height * w->width, here.first + image,
                                   2 * group * LANES);
            expand_rows(w, rows.start, rows.from, masked, vectors, &expand, x, m, area);
            expand_rows(w, rows.start, masked, rows.to, vectors, &expand, x, (mask){0}, area);
        }
        real *y = slot(c, here.arena, u->step + 1, image);
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t channel = (2 * group + v) * LANES, pixel = first * w->out_w;
            real *target = y + channel * w->out_h * w->out_w + pixel * LANES;
            end.start = bias_of(q, channel);
            correlate(w, area + v * w->area, filters + v * w->taps * LANES, end, 0, outputs, target);
            const mask m = mask_of(c, q->mask, w->out_h * w->out_w, here.first + image, channel);
            use_mask_in_row(from_pixel(m, pixel), outputs * w->out_w, end.ceiling, target);
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
            patches_in_lanes(&all, c->in.data, (here.first + image) * pixels + first, size, rows,
                             patches);
            for (int64_t group = 0; group < u->groups; group++) {
                real *y = slot(c, here.arena, u->step + 1, image) + 2 * group * pixels * LANES;
                const mask m = mask_of(c, q->mask, pixels, here.first + image, 2 * group * LANES);
                r[group].block = size * LANES;
                for (int64_t t = 0; t < tiles; t++) {
                    const int64_t a = t * size / tiles, n = (t + 1) * size / tiles - a;
                    for (int64_t i = 0; i < n; i++) places[i] = (first + a + i) * LANES;
                    product_pixels(n, min64(2, vectors_of(q->s.filters) - 2 * group), &r[group],
                                   patches + a * LANES, NULL, from_pixel(m, first + a), places, y);
                }
            }
        }
}

/* ---- In and out ----------------------------------------------------------------------------- */

static void run_from_rows(const chain *c, int64_t v, place_of_work here) {
    const tensor *x = &c->in;
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
        use_mask_in_row(mask_of(c, c->input_mask, pixels, here.first + image, v * LANES), pixels,
                        (vec){0}, target);
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

#endif
