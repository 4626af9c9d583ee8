/* Any convolution as matrix products over unrolled patches ("im2col"), without storing them all.
 *
 * K. Chellapilla, S. Puri, P. Simard, "High performance convolutional neural networks for document
 * processing" (2006).  The patches that P consecutive output pixels see are the columns of a matrix
 * of R = channels_of_group * kernel_h * kernel_w rows:
 *
 *   y  (filters x P) = w (filters x R) . patches (R x P)
 *   dw (filters x R) = sum over blocks of  g (filters x P) . patches'
 *   dpatches (R x P) = w' . g,  added back to where each patch came from
 *
 * Patches are made a block at a time, in panels as tile.h reads them, and stay in the cache
 * ("implicit" matrix product).  Pixels are counted through the whole batch, so that small images
 * fill panels as well.  A 1x1 convolution is the case whose patches are copies of the image.
 */
#include "patches.h"
#include "tile.h"

enum { BLOCK_BYTES = 1 << 19, MOST_PANELS = 8, MOST_TURNED = 256 };

/* Patches of pixels [first, first + size): row r at patches[r * pitch], zero up to whole vectors. */
static void make_patches(const plan *q, const real *x, int64_t first, int64_t size, real *patches,
                         int64_t pitch) {
    for (int64_t r = 0; r < q->rows; r++, patches += pitch) {
        unroll_row(q, x, r, first, size, patches);
        for (int64_t i = size; i < round_up(size, LANES); i++) patches[i] = 0;
    }
}

/* How many panels fit into the cache, not more than leave every thread some. */
static int64_t panels_at_once(int64_t rows, int64_t panels) {
    const int64_t fit = BLOCK_BYTES / (max64(rows, 1) * PANEL * (int64_t)sizeof(real));
    return max64(min64(min64(fit, MOST_PANELS), panels / (4 * thread_count())), 1);
}

/* What happens to a sum before it is stored. */
typedef struct {
    const real *bias; /* one per row, or NULL */
    vec floor, ceiling;
} ending;

static inline __attribute__((always_inline)) void
finished_product(const int vectors, int64_t rows, int64_t depth, left_factor a, const real *b,
                 int64_t ldb, const ending *end, real *c, int64_t ldc) {
    vec sums[TILE_ROWS][TILE_VECTORS];
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < vectors; j++)
            sums[i][j] = broadcast(end->bias ? end->bias[min64(i, rows - 1)] : 0);
    tile_sums(vectors, rows, depth, a, b, ldb, sums);
    for (int i = 0; i < TILE_ROWS; i++) {
        if (i >= rows) break;
        for (int j = 0; j < vectors; j++) {
            vec v = choose(sums[i][j] < end->floor, end->floor, sums[i][j]); /* NaN stays */
            store(c + i * ldc + j * LANES, choose(v > end->ceiling, end->ceiling, v));
        }
    }
}

/* A panel of products whose pixels cross the end of an image, or of the batch. */
static void scatter(const plan *q, const real *tile, int64_t rows, int64_t first, int64_t size,
                    real *y) {
    for (int64_t run, done = 0; done < size; done += run) {
        const int64_t pixel = (first + done) % q->pixels;
        run = min64(q->pixels - pixel, size - done);
        real *target = y + (first + done) / q->pixels * q->y_image + pixel;
        for (int64_t i = 0; i < rows; i++)
            memcpy(target + i * q->pixels, tile + i * PANEL + done, (size_t)run * sizeof(real));
    }
}

/* Filters [filter, last) on the pixels [first, first + size), whose patches are at hand. */
static void multiply(const plan *q, const real *w, const real *patches, int64_t pitch,
                     const real *bias, ending end, int64_t filter, int64_t last, int64_t first,
                     int64_t size, real *y) {
    for (int64_t f = filter; f < last; f += TILE_ROWS) {
        const int64_t rows = min64(TILE_ROWS, last - f);
        const left_factor a = {w + f * q->rows, q->rows, 1};
        end.bias = bias ? bias + f : NULL;
        for (int64_t p = 0; p < size; p += PANEL) {
            const int64_t pixel = first + p, n = min64(PANEL, size - p);
            const real *b = patches + p;
            real *target = y + pixel / q->pixels * q->y_image + f * q->pixels + pixel % q->pixels;
            if (n == PANEL && pixel % q->pixels + PANEL <= q->pixels) {
                finished_product(TILE_VECTORS, rows, q->rows, a, b, pitch, &end, target, q->pixels);
            } else {
                real tile[TILE_ROWS * PANEL];
                FOR_COLUMNS(round_up(n, LANES), finished_product, rows, q->rows, a, b, pitch, &end,
                            tile, PANEL)
                scatter(q, tile, rows, pixel, n, y + f * q->pixels);
            }
        }
    }
}

static int convolve(const plan *q, const real *x, const real *w, const real *bias, int activation,
                    real *y) {
    const int64_t pixels = q->s.batch * q->pixels, panels = (pixels + PANEL - 1) / PANEL;
    const int64_t block = panels_at_once(q->rows, panels) * PANEL;
    const int64_t blocks = (pixels + block - 1) / block;
    /* Few pixels: divide the filters as well. */
    const int64_t wanted = max64(min64((2 * thread_count() + blocks - 1) / max64(blocks, 1),
                                       q->filters / (2 * TILE_ROWS)), 1);
    const int64_t part = round_up((q->filters + wanted - 1) / wanted, TILE_ROWS);
    const ending end = {NULL, broadcast(activation == NO_ACTIVATION ? -INFINITY : 0),
                        broadcast(activation == RELU6 ? 6 : INFINITY)};
    /* Rows a line longer than their contents: not all at one place of the cache. */
    const int64_t pitch = block == PANEL ? PANEL : block + LANES, own = pitch * q->rows;
    scratch memory = take_scratch(own * thread_count());
    if (!memory.data) return 1;
#pragma omp parallel
    {
        real *patches = memory.data + own * thread_number();
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t first = 0; first < pixels; first += block)
            for (int64_t f = 0; f < q->filters; f += part) {
                const int64_t size = min64(block, pixels - first);
                make_patches(q, x, first, size, patches, pitch);
                multiply(q, w, patches, pitch, bias, end, f, min64(f + part, q->filters), first,
                         size, y);
            }
    }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_gemm_forward)(const conv_geometry *s, const real *x, const real *w,
                              const real *bias, int activation, real *y) {
    const plan q = make_plan(s);
    int failed = 0;
    for (int64_t g = 0; g < s->groups && !failed; g++)
        failed = convolve(&q, x + g * q.channels * s->height * s->width,
                          w + g * q.filters * q.rows, bias ? bias + g * q.filters : NULL,
                          activation, y + g * q.filters * q.pixels);
    return failed;
}

/* ---- Gradient with respect to the input ----------------------------------------------------- */

/* Stride 1: a convolution of g by the filters turned by half a circle and transposed. */
static int turned_convolution(const conv_geometry *s, const real *w, const real *g, real *dx) {
    const int64_t channels = s->channels / s->groups, filters = s->filters / s->groups;
    const int64_t taps = s->kernel_h * s->kernel_w;
    conv_geometry t = *s;
    t.channels = s->filters, t.filters = s->channels;
    t.height = s->out_h, t.width = s->out_w, t.out_h = s->height, t.out_w = s->width;
    t.pad_top = (s->kernel_h - 1) * s->dilation_h - s->pad_top;
    t.pad_left = (s->kernel_w - 1) * s->dilation_w - s->pad_left;
    scratch turned = take_scratch(s->filters * channels * taps);
    if (!turned.data) return 1;
    for (int64_t group = 0; group < s->groups; group++) {
        const real *source = w + group * filters * channels * taps;
        real *target = turned.data + group * filters * channels * taps;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t f = 0; f < filters; f++)
                for (int64_t k = 0; k < taps; k++)
                    target[(c * filters + f) * taps + k] =
                        source[(f * channels + c) * taps + taps - 1 - k];
    }
    const int failed = KERNEL(conv_gemm_forward)(&t, g, turned.data, NULL, NO_ACTIVATION, dx);
    give_scratch(turned);
    return failed;
}

/* The transpose of unroll_row within one image: add a row of patches to the pixels they came
 * from. */
static void roll_back(const plan *q, const real *source, int64_t r, int64_t first, int64_t size,
                      real *image) {
    const conv_geometry *s = &q->s;
    const int64_t channel = r / q->taps, tap = r % q->taps, stride = s->stride_w;
    const int64_t dy = tap / s->kernel_w * s->dilation_h - s->pad_top;
    const int64_t dx = tap % s->kernel_w * s->dilation_w - s->pad_left;
    int64_t from, to;
    valid_range(s->out_w, stride, dx, s->width, &from, &to);
    for (int64_t run, done = 0; done < size; done += run, source += run) {
        const int64_t ox = (first + done) % s->out_w;
        const int64_t iy = (first + done) / s->out_w * s->stride_h + dy;
        run = min64(s->out_w - ox, size - done);
        if (iy < 0 || iy >= s->height) continue;
        real *target = image + (channel * s->height + iy) * s->width + ox * stride + dx;
        const int64_t a = max64(from - ox, 0), b = min64(to - ox, run);
        for (int64_t i = a; i < b; i++) target[i * stride] += source[i];
    }
}

/* Patches of dx, added up where they overlap; each thread has channels of its own. */
static int scattered_gradient(const plan *q, const real *w, const real *g, real *dx) {
    const int64_t plane = q->s.height * q->s.width;
    const int64_t wanted = max64(4 * thread_count() / max64(q->s.batch, 1), 1);
    const int64_t piece = max64((q->channels + wanted - 1) / wanted, 1);
    const int64_t own = (q->filters + piece * q->taps) * PANEL;
    scratch memory = take_scratch(own * thread_count());
    if (!memory.data) return 1;
#pragma omp parallel
    {
        real *panel = memory.data + own * thread_number(), *patches = panel + q->filters * PANEL;
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t n = 0; n < q->s.batch; n++)
            for (int64_t channel = 0; channel < q->channels; channel += piece) {
                const int64_t channels = min64(piece, q->channels - channel);
                const int64_t row = channel * q->taps, rows = channels * q->taps;
                real *image = dx + n * q->x_image;
                memset(image + channel * plane, 0, (size_t)(channels * plane) * sizeof(real));
                for (int64_t first = 0; first < q->pixels; first += PANEL) {
                    const int64_t size = min64(PANEL, q->pixels - first);
                    for (int64_t f = 0; f < q->filters; f++) {
                        const real *source = g + n * q->y_image + f * q->pixels + first;
                        memcpy(panel + f * PANEL, source, (size_t)size * sizeof(real));
                        for (int64_t i = size; i < PANEL; i++) panel[f * PANEL + i] = 0;
                    }
                    for (int64_t r = 0; r < rows; r += TILE_ROWS)
                        tile_product(min64(TILE_ROWS, rows - r), round_up(size, LANES), q->filters,
                                     (left_factor){w + row + r, 1, q->rows}, panel, PANEL, 0,
                                     patches + r * PANEL, PANEL);
                    for (int64_t r = 0; r < rows; r++)
                        roll_back(q, patches + r * PANEL, row + r, first, size, image);
                }
            }
    }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_gemm_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                     real *dx) {
    /* Patches of dx are as many rows as a filter has elements, patches of g as many as the filters
     * of one channel: a first layer, of few channels and many filters, scatters the few. */
    const int many_filters = s->filters >= 4 * s->channels;
    if (s->stride_h == 1 && s->stride_w == 1 && !many_filters)
        return turned_convolution(s, w, g, dx);
    const plan q = make_plan(s);
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++)
        failed = scattered_gradient(&q, w + group * q.filters * q.rows,
                                    g + group * q.filters * q.pixels,
                                    dx + group * q.channels * s->height * s->width);
    return failed;
}

/* ---- Gradient with respect to the filters --------------------------------------------------- */

/* Patches of pixels [first, first + size), turned: pixel p, row r of panel k at
 * panels[(k * size + p) * PANEL + r - k * PANEL]. */
static void make_turned_panels(const plan *q, const real *x, int64_t first, int64_t size,
                               real *panels) {
    real rows[LANES * MOST_TURNED];
    for (int64_t row = 0; row < q->rows; row += LANES) {
        real *target = panels + row / PANEL * size * PANEL + row % PANEL;
        for (int64_t i = 0; i < LANES; i++)
            if (row + i < q->rows) unroll_row(q, x, row + i, first, size, rows + i * MOST_TURNED);
            else memset(rows + i * MOST_TURNED, 0, MOST_TURNED * sizeof(real));
        for (int64_t p = 0; p < size; p += LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = load(rows + i * MOST_TURNED + p);
            transpose(v);
            for (int64_t i = 0; i < min64(LANES, size - p); i++)
                store(target + (p + i) * PANEL, v[i]);
        }
    }
}

/* Every thread sums over some of the pixels; the sums are added in the order of the threads. */
static int filter_gradient(const plan *q, const real *x, const real *g, real *dw) {
    const int64_t row_panels = (q->rows + PANEL - 1) / PANEL, width = round_up(q->rows, LANES);
    const int64_t fit = BLOCK_BYTES / (row_panels * PANEL * (int64_t)sizeof(real)) / 16 * 16;
    const int64_t block = max64(min64(min64(fit, MOST_TURNED), q->pixels), 16);
    const int64_t in_image = (q->pixels + block - 1) / block, blocks = q->s.batch * in_image;
    const int64_t parts = max64(min64(thread_count(), blocks), 1), size = q->filters * width;
    const int64_t own = block * row_panels * PANEL;
    scratch memory = take_scratch(parts * (size + own));
    if (!memory.data) return 1;
    real *sums = memory.data;
#pragma omp parallel for schedule(static, 1)
    for (int64_t part = 0; part < parts; part++) {
        real *mine = sums + part * size, *panels = sums + parts * size + part * own;
        memset(mine, 0, (size_t)size * sizeof(real));
        for (int64_t i = part * blocks / parts; i < (part + 1) * blocks / parts; i++) {
            const int64_t n = i / in_image, first = i % in_image * block;
            const int64_t depth = min64(block, q->pixels - first);
            make_turned_panels(q, x, n * q->pixels + first, depth, panels);
            for (int64_t f = 0; f < q->filters; f += TILE_ROWS)
                for (int64_t r = 0; r < q->rows; r += PANEL)
                    tile_product(min64(TILE_ROWS, q->filters - f), min64(PANEL, width - r), depth,
                                 (left_factor){g + n * q->y_image + f * q->pixels + first,
                                               q->pixels, 1},
                                 panels + r * depth, PANEL, 1, mine + f * width + r, width);
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t f = 0; f < q->filters; f++)
        for (int64_t r = 0; r < q->rows; r++) {
            real total = 0;
            for (int64_t part = 0; part < parts; part++)
                total += sums[part * size + f * width + r];
            dw[f * q->rows + r] = total;
        }
    give_scratch(memory);
    return 0;
}

int KERNEL(conv_gemm_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                      real *dw) {
    const plan q = make_plan(s);
    int failed = 0;
    for (int64_t group = 0; group < s->groups && !failed; group++)
        failed = filter_gradient(&q, x + group * q.channels * s->height * s->width,
                                 g + group * q.filters * q.pixels, dw + group * q.filters * q.rows);
    return failed;
}
