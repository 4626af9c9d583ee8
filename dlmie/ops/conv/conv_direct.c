/* Convolutions of small images whose channels lie side by side: no patches are stored.
 *
 * With the channels of a pixel next to each other, what a row of a filter sees is one run of
 * kernel_w * channels numbers.  Tiles of the products then read the images where they lie:
 *
 *   y[p, f]         = sum over the rows i of a filter, over k < run:  x[p, i, k] * w[i, k, f]
 *   dw[i, k, f]     = sum over pixels p:                              x[p, i, k] * g[p, f]
 *   dx[p, i, k]    += sum over filters f:                             g[p, f] * w[f, i, k]
 *
 * where x[p, i, k] is number k of row i of the patch that output pixel p sees.  The last is the
 * transpose of unrolling patches ("col2im"): tiles are added to the image straight from the
 * registers.  E. Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD
 * architectures" (2018), describe loops of this kind.
 *
 * Images are reordered, with zeros around them, as they are needed, and the results back; for large
 * images this costs more than it saves.
 */
#include "conv.h"
#include "tile.h"

/* Products that are narrower than half a tile are twice as high, so that as many sums are open. */
#define HIGH_ROWS (2 * TILE_ROWS)
#define ROWS(vectors) (2 * (vectors) <= TILE_VECTORS ? HIGH_ROWS : TILE_ROWS)
#define SLACK (HIGH_ROWS + LANES) /* elements that tiles may read beyond the end */

/* Pixels that are at work at once, so that they stay in the cache: of y, with all their filters; of
 * gradients, where a tile needs enough of them to be worth reading and writing its sums. */
enum { FORWARD_PIXELS = 96, GRADIENT_PIXELS = 240 };

/* One group of the convolution. Pixels are counted in the order of an image in memory. */
typedef struct {
    conv_geometry s;
    int64_t channels, filters;  /* of the group */
    int64_t taps, run, rows;    /* of a filter: its elements of a channel, of a row, all */
    int64_t wide, image;        /* of a padded image: pixels of a row, elements in all */
    int64_t plane, pixels;      /* of one channel of x, of one filter of y */
    int64_t x_image, y_image;   /* elements from one image to the next */
    int64_t panels;             /* of filters */
    int64_t *inside, *seen;     /* pixels of x, patches of y: at which pixel of a padded image */
    int64_t *order;             /* element (c, i, j) of a filter: at which place of (i, j, c) */
    size_t bytes;
} plan;

static int make_plan(const conv_geometry *s, plan *q) {
    *q = (plan){.s = *s, .channels = s->channels / s->groups, .filters = s->filters / s->groups};
    q->taps = s->kernel_h * s->kernel_w;
    q->run = s->kernel_w * q->channels;
    q->rows = q->channels * q->taps;
    q->wide = max64(s->pad_left + s->width, (s->out_w - 1) * s->stride_w + s->kernel_w);
    const int64_t reach = (s->out_h - 1) * s->stride_h + (s->kernel_h - 1) * s->dilation_h + 1;
    q->image = max64(s->pad_top + s->height, reach) * q->wide * q->channels + SLACK;
    q->plane = s->height * s->width;
    q->pixels = s->out_h * s->out_w;
    q->x_image = s->channels * q->plane;
    q->y_image = s->filters * q->pixels;
    q->panels = (q->filters + PANEL - 1) / PANEL;
    q->inside = dlmie_take((size_t)(q->plane + q->pixels + q->rows) * sizeof(int64_t), &q->bytes);
    if (!q->inside) return 1;
    q->seen = q->inside + q->plane, q->order = q->seen + q->pixels;
    for (int64_t y = 0; y < s->height; y++)
        for (int64_t x = 0; x < s->width; x++)
            q->inside[y * s->width + x] = (y + s->pad_top) * q->wide + x + s->pad_left;
    for (int64_t y = 0; y < s->out_h; y++)
        for (int64_t x = 0; x < s->out_w; x++)
            q->seen[y * s->out_w + x] = y * s->stride_h * q->wide + x * s->stride_w;
    for (int64_t c = 0; c < q->channels; c++)
        for (int64_t k = 0; k < q->taps; k++) q->order[c * q->taps + k] = k * q->channels + c;
    return 0;
}

static void forget_plan(plan *q) { dlmie_give(q->inside, q->bytes); }

/* Columns of a panel of `size` columns in all, padded to whole vectors. */
static int64_t panel_width(int64_t panel, int64_t size) {
    return min64(PANEL, round_up(size - panel * PANEL, LANES));
}

/* Where number n of `places` lies; without any, one after the other. */
static inline int64_t at(const int64_t *places, int64_t n) { return places ? places[n] : n; }

/* target[at(places, p) * step + c] = source[c * pitch + p] for all channels c and pixels p. */
static void channels_last(const real *source, int64_t pitch, int64_t channels, int64_t pixels,
                          const int64_t *places, int64_t step, real *target) {
    const int64_t whole = pixels < LANES ? 0 : channels / LANES * LANES;
    for (int64_t c = 0; c < whole; c += LANES)
        for (int64_t next = 0; next < pixels; next += LANES) {
            const int64_t p = min64(next, pixels - LANES); /* the last ones overlap */
            vec v[LANES];
            for (int l = 0; l < LANES; l++) v[l] = load(source + (c + l) * pitch + p);
            transpose(v);
            for (int l = 0; l < LANES; l++) store(target + at(places, p + l) * step + c, v[l]);
        }
    for (int64_t c = whole; c < channels; c++)
        for (int64_t p = 0; p < pixels; p++)
            target[at(places, p) * step + c] = source[c * pitch + p];
}

/* What happens to a number on its way back. */
typedef struct {
    const real *bias; /* one per channel, or NULL */
    int activation;
} ending;

/* target[c * pitch + p] = source[at(places, p) * step + c] for all channels c and pixels p. */
static void channels_first(const real *source, const int64_t *places, int64_t step,
                           int64_t channels, int64_t pixels, ending end, real *target,
                           int64_t pitch) {
    const vec floor = broadcast(end.activation == NO_ACTIVATION ? -INFINITY : 0);
    const vec ceiling = broadcast(end.activation == RELU6 ? 6 : INFINITY);
    const int64_t whole = pixels < LANES ? 0 : channels / LANES * LANES;
    for (int64_t c = 0; c < whole; c += LANES)
        for (int64_t next = 0; next < pixels; next += LANES) {
            const int64_t p = min64(next, pixels - LANES);
            vec v[LANES];
            for (int l = 0; l < LANES; l++) v[l] = load(source + at(places, p + l) * step + c);
            transpose(v);
            for (int l = 0; l < LANES; l++) {
                if (end.bias) v[l] += broadcast(end.bias[c + l]);
                v[l] = choose(v[l] < floor, floor, v[l]); /* NaN stays */
                store(target + (c + l) * pitch + p, choose(v[l] > ceiling, ceiling, v[l]));
            }
        }
    for (int64_t c = whole; c < channels; c++)
        for (int64_t p = 0; p < pixels; p++)
            target[c * pitch + p] = activate(
                source[at(places, p) * step + c] + (end.bias ? end.bias[c] : 0), end.activation);
}

/* sums = left . b, where row r of `left` is `segments` runs of `depth` numbers, `next` apart. */
static inline __attribute__((always_inline)) void
sum_runs(const int rows, const int vectors, int64_t segments, int64_t next, int64_t depth,
         const real *const *left, const real *b, vec sums[HIGH_ROWS][TILE_VECTORS]) {
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < vectors; j++) sums[r][j] = (vec){0};
    for (int64_t i = 0; i < segments; i++)
        for (int64_t k = i * next; k < i * next + depth; k++, b += vectors * LANES) {
            vec right[TILE_VECTORS];
            for (int j = 0; j < vectors; j++) right[j] = load(b + j * LANES);
            for (int r = 0; r < rows; r++) {
                const vec element = broadcast(left[r][k]);
                for (int j = 0; j < vectors; j++) sums[r][j] += element * right[j];
            }
        }
}

/* ---- Forward -------------------------------------------------------------------------------- */

/* y of the pixels [first, first + size) and the filters of one panel -> sums, a row for a pixel. */
static inline __attribute__((always_inline)) void
forward_tiles(const int vectors, const plan *q, const real *image, const real *w, int64_t first,
              int64_t size, real *target) {
    const int rows = ROWS(vectors);
    for (int64_t p = 0; p < size; p += rows, target += rows * vectors * LANES) {
        const real *left[HIGH_ROWS];
        vec sums[HIGH_ROWS][TILE_VECTORS];
        for (int r = 0; r < rows; r++)
            left[r] = image + q->seen[first + min64(p + r, size - 1)] * q->channels;
        sum_runs(rows, vectors, q->s.kernel_h, q->s.dilation_h * q->wide * q->channels, q->run,
                 left, w, sums);
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < vectors; j++)
                store(target + (r * vectors + j) * LANES, sums[r][j]);
    }
}

static void forward_image(const plan *q, const real *image, const real *w, ending end, real *sums,
                          real *y) {
    const int64_t chunks = (q->pixels + FORWARD_PIXELS - 1) / FORWARD_PIXELS;
    const int64_t chunk = round_up((q->pixels + chunks - 1) / chunks, HIGH_ROWS);
    for (int64_t first = 0; first < q->pixels; first += chunk) {
        const int64_t size = min64(chunk, q->pixels - first);
        for (int64_t panel = 0; panel < q->panels; panel++) {
            const int64_t f = panel * PANEL, width = panel_width(panel, q->filters);
            const ending here = {end.bias ? end.bias + f : NULL, end.activation};
            FOR_COLUMNS(width, forward_tiles, q, image, w + f * q->rows, first, size, sums)
            channels_first(sums, NULL, width, min64(PANEL, q->filters - f), size, here,
                           y + f * q->pixels + first, q->pixels);
        }
    }
}

static int forward_group(const plan *q, const real *x, const real *w, ending end, real *y) {
    const int64_t weights = round_up(q->filters, LANES) * q->rows;
    const int64_t own = round_up(q->image + (FORWARD_PIXELS + HIGH_ROWS) * PANEL, LANES);
    scratch memory = take_scratch(weights + own * thread_count());
    if (!memory.data) return 1;
    real *panels = memory.data;
    memset(panels, 0, (size_t)weights * sizeof(real)); /* filters that pad the last panel */
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < q->panels; panel++)
            channels_last(w + panel * PANEL * q->rows, q->rows,
                          min64(PANEL, q->filters - panel * PANEL), q->rows, q->order,
                          panel_width(panel, q->filters), panels + panel * PANEL * q->rows);
        real *image = memory.data + weights + own * thread_number(), *sums = image + q->image;
        memset(image, 0, (size_t)q->image * sizeof(real)); /* the padding, once for all images */
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < q->s.batch; n++) {
            channels_last(x + n * q->x_image, q->plane, q->channels, q->plane, q->inside,
                          q->channels, image);
            forward_image(q, image, panels, end, sums, y + n * q->y_image);
        }
    }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_direct_forward)(const conv_geometry *s, const real *x, const real *w,
                                const real *bias, int activation, real *y) {
    plan q;
    if (make_plan(s, &q)) return 1;
    int failed = 0;
    for (int64_t g = 0; g < s->groups && !failed; g++)
        failed = forward_group(&q, x + g * q.channels * q.plane, w + g * q.filters * q.rows,
                               (ending){bias ? bias + g * q.filters : NULL, activation},
                               y + g * q.filters * q.pixels);
    forget_plan(&q);
    return failed;
}

/* ---- Gradient with respect to the input ----------------------------------------------------- */

/* One panel of one row of all patches of an image, added up where they lie.  `columns` of the panel
 * are there, the others pad it. */
static inline __attribute__((always_inline)) void
add_patches(const int vectors, const plan *q, const real *g, const real *w, int64_t columns,
            real *image) {
    const int rows = ROWS(vectors);
    const int64_t whole = columns / LANES;
    for (int64_t p = 0; p < q->pixels; p += rows) {
        const real *left[HIGH_ROWS];
        vec sums[HIGH_ROWS][TILE_VECTORS];
        for (int r = 0; r < rows; r++) left[r] = g + min64(p + r, q->pixels - 1) * q->filters;
        sum_runs(rows, vectors, 1, 0, q->filters, left, w, sums);
        for (int r = 0; r < rows; r++) {
            if (p + r >= q->pixels) break;
            real *target = image + q->seen[p + r] * q->channels;
            for (int j = 0; j < vectors; j++)
                if (j < whole)
                    store(target + j * LANES, load(target + j * LANES) + sums[r][j]);
                else
                    for (int64_t k = j * LANES; k < columns; k++)
                        target[k] += sums[r][j][k - j * LANES];
        }
    }
}

static void add_image(const plan *q, const real *g, const real *w, real *image) {
    for (int64_t i = 0; i < q->s.kernel_h; i++)
        for (int64_t k = 0; k < q->run; k += PANEL) {
            const int64_t width = panel_width(k / PANEL, q->run);
            real *target = image + i * q->s.dilation_h * q->wide * q->channels + k;
            FOR_COLUMNS(width, add_patches, q, g, w, min64(PANEL, q->run - k), target)
            w += q->filters * width;
        }
}

/* Rows i of all filters, panel after panel: panels[i][panel][f][column]. */
static void fill_panels(const plan *q, const real *w, int64_t f, real *panels) {
    const int64_t padded = round_up(q->run, LANES), taps = q->taps;
    for (int64_t i = 0; i < q->s.kernel_h; i++)
        for (int64_t k = 0; k < padded; k += PANEL) {
            const int64_t width = panel_width(k / PANEL, q->run);
            real *target = panels + (i * padded + k) * q->filters + f * width;
            int64_t j = k / q->channels, c = k % q->channels;
            for (int64_t column = 0; column < width; column++) {
                const int there = k + column < q->run;
                target[column] = there ? w[(f * q->channels + c) * taps + i * q->s.kernel_w + j] : 0;
                if (++c == q->channels) c = 0, j++;
            }
        }
}

static int input_gradient_group(const plan *q, const real *w, const real *g, ending end, real *dx) {
    const int64_t weights = q->s.kernel_h * round_up(q->run, LANES) * q->filters;
    const int64_t own = round_up(q->image + q->pixels * q->filters, LANES);
    scratch memory = take_scratch(weights + own * thread_count());
    if (!memory.data) return 1;
    real *panels = memory.data;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t f = 0; f < q->filters; f++) fill_panels(q, w, f, panels);
        real *image = memory.data + weights + own * thread_number(), *turned = image + q->image;
#pragma omp for schedule(dynamic)
        for (int64_t n = 0; n < q->s.batch; n++) {
            memset(image, 0, (size_t)q->image * sizeof(real));
            channels_last(g + n * q->y_image, q->pixels, q->filters, q->pixels, NULL, q->filters,
                          turned);
            add_image(q, turned, panels, image);
            channels_first(image, q->inside, q->channels, q->channels, q->plane, end,
                           dx + n * q->x_image, q->plane);
        }
    }
    give_scratch(memory);
    return 0;
}

/* The same with a bias, which may be NULL, and an activation: a layer of its own. */
int KERNEL(conv_direct_transposed)(const conv_geometry *s, const real *w, const real *g,
                                   const real *bias, int activation, real *dx) {
    plan q;
    if (make_plan(s, &q)) return 1;
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++)
        failed = input_gradient_group(
            &q, w + group * q.filters * q.rows, g + group * q.filters * q.pixels,
            (ending){bias ? bias + group * q.channels : NULL, activation},
            dx + group * q.channels * q.plane);
    forget_plan(&q);
    return failed;
}

int KERNEL(conv_direct_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                       real *dx) {
    return KERNEL(conv_direct_transposed)(s, w, g, NULL, NO_ACTIVATION, dx);
}

/* ---- Gradient with respect to the filters --------------------------------------------------- */

/* sums += what pixels [first, last) of several images add to one panel of filters. */
static inline __attribute__((always_inline)) void
add_products(const int vectors, const plan *q, const real *x, const real *g, int64_t images,
             int64_t first, int64_t last, real *sums) {
    const int rows = ROWS(vectors);
    for (int64_t i = 0; i < q->s.kernel_h; i++)
        for (int64_t k = 0; k < q->run; k += rows) {
            const real *left = x + i * q->s.dilation_h * q->wide * q->channels + k;
            real *target = sums + (i * q->run + k) * vectors * LANES;
            vec total[HIGH_ROWS][TILE_VECTORS];
            for (int r = 0; r < rows; r++)
                for (int j = 0; j < vectors; j++) total[r][j] = (vec){0};
            for (int64_t n = 0; n < images; n++, left += q->image) {
                const real *right = g + (n * q->pixels + first) * vectors * LANES;
                for (int64_t p = first; p < last; p++, right += vectors * LANES) {
                    const real *patch = left + q->seen[p] * q->channels;
                    vec b[TILE_VECTORS];
                    for (int j = 0; j < vectors; j++) b[j] = load(right + j * LANES);
                    for (int r = 0; r < rows; r++) {
                        const vec element = broadcast(patch[r]);
                        for (int j = 0; j < vectors; j++) total[r][j] += element * b[j];
                    }
                }
            }
            for (int r = 0; r < rows; r++) {
                if (k + r >= q->run) break;
                for (int j = 0; j < vectors; j++) {
                    real *here = target + (r * vectors + j) * LANES;
                    store(here, load(here) + total[r][j]);
                }
            }
        }
}

/* Every thread sums over some of the images; the sums are added in the order of the threads. */
static int weight_gradient_group(const plan *q, const real *x, const real *g, real *dw) {
    const int64_t fit = max64(GRADIENT_PIXELS / max64(q->pixels, 1), 1);
    const int64_t at_once = min64(fit, (q->s.batch + thread_count() - 1) / thread_count());
    const int64_t blocks = (q->s.batch + at_once - 1) / max64(at_once, 1);
    const int64_t parts = max64(min64(thread_count(), blocks), 1);
    const int64_t size = round_up(q->filters, LANES) * q->rows;
    const int64_t own = round_up(at_once * (q->image + q->pixels * PANEL), LANES);
    scratch memory = take_scratch(parts * (size + own));
    if (!memory.data) return 1;
    real *sums = memory.data;
#pragma omp parallel for schedule(static, 1)
    for (int64_t part = 0; part < parts; part++) {
        real *mine = sums + part * size, *images = sums + parts * size + part * own;
        real *turned = images + at_once * q->image;
        memset(mine, 0, (size_t)size * sizeof(real));
        memset(images, 0, (size_t)own * sizeof(real));
        for (int64_t b = part * blocks / parts; b < (part + 1) * blocks / parts; b++) {
            const int64_t first = b * at_once, several = min64(at_once, q->s.batch - first);
            for (int64_t n = 0; n < several; n++)
                channels_last(x + (first + n) * q->x_image, q->plane, q->channels, q->plane,
                              q->inside, q->channels, images + n * q->image);
            for (int64_t panel = 0; panel < q->panels; panel++) {
                const int64_t f = panel * PANEL, width = panel_width(panel, q->filters);
                for (int64_t n = 0; n < several; n++)
                    channels_last(g + (first + n) * q->y_image + f * q->pixels, q->pixels,
                                  min64(PANEL, q->filters - f), q->pixels, NULL, width,
                                  turned + n * q->pixels * width);
                for (int64_t p = 0; p < q->pixels; p += GRADIENT_PIXELS)
                    FOR_COLUMNS(width, add_products, q, images, turned, several, p,
                                min64(p + GRADIENT_PIXELS, q->pixels), mine + f * q->rows)
            }
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t panel = 0; panel < q->panels; panel++) {
        const int64_t f = panel * PANEL, width = panel_width(panel, q->filters);
        real *total = sums + f * q->rows;
        for (int64_t part = 1; part < parts; part++)
            for (int64_t k = 0; k < width * q->rows; k++) total[k] += total[part * size + k];
        channels_first(total, q->order, width, min64(PANEL, q->filters - f), q->rows,
                       (ending){NULL, NO_ACTIVATION}, dw + f * q->rows, q->rows);
    }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_direct_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                        real *dw) {
    plan q;
    if (make_plan(s, &q)) return 1;
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++)
        failed = weight_gradient_group(&q, x + group * q.channels * q.plane,
                                       g + group * q.filters * q.pixels,
                                       dw + group * q.filters * q.rows);
    forget_plan(&q);
    return failed;
}
