/* Products of small batches with weights that every step of a sequence uses again.
 *
 * A BLAS call spends a third of such a product on copying the weights into the order its inner
 * loop wants.  Here that is done once a sequence: they lie in panels of PANEL columns, each read
 * straight through by the register tile of tile.h, PANEL_DEPTH rows at a time, which stay in the
 * cache until all rows of the batch have met them (Goto and van de Geijn 2008, as tile.h).
 */
#ifndef DLMIE_PANELS_H
#define DLMIE_PANELS_H

#include "tile.h"

#define PANEL_DEPTH 256

/* The right factor of y = x w: w (depth x columns), stored so or as its transpose; in half precision
 * (half.h) it is not transposed. */
typedef struct {
    const void *w;
    int half, transposed;
    int64_t depth, columns;
    real *panels; /* panel after panel, depth rows each; NULL: not worth it, or no memory */
} factor;

static inline void fill_panel(const factor *f, int64_t panel) {
    const real *w = f->w;
    real *target = f->panels + panel * f->depth * PANEL;
    const int64_t from = panel * PANEL, width = min64(PANEL, f->columns - from);
    if (width < PANEL) memset(target, 0, sizeof(real) * (size_t)(f->depth * PANEL));
    if (!f->transposed) {
        for (int64_t k = 0; k < f->depth; k++)
            memcpy(target + k * PANEL, w + k * f->columns + from, sizeof(real) * (size_t)width);
        return;
    }
    for (int64_t k = 0; k < f->depth; k += LANES) /* a few rows at a time: they stay in the cache */
        for (int64_t j = 0; j < width; j++)
            for (int64_t i = k; i < min64(k + LANES, f->depth); i++)
                target[i * PANEL + j] = w[(from + j) * f->depth + i];
}

/* Prepare the matrix w, or with `transpose` its transpose, for that many products; NULL: none. */
static inline factor prepare(const tensor *w, int transpose, int64_t uses) {
    if (!w) return (factor){0};
    const int64_t rows = w->shape[0], columns = w->shape[1];
    factor f = {w->data, w->half != 0, transpose, transpose ? columns : rows,
                transpose ? rows : columns, NULL};
    if (uses < 4 || f.columns < LANES || f.half) return f;
    const int64_t count = (f.columns + PANEL - 1) / PANEL;
    void *panels = NULL;
    if (posix_memalign(&panels, 64, sizeof(real) * (size_t)(count * PANEL * f.depth))) return f;
    f.panels = panels;
#pragma omp parallel for schedule(static) if (rows * columns > 50000)
    for (int64_t panel = 0; panel < count; panel++) fill_panel(&f, panel);
    return f;
}

static inline void release(factor *f) {
    free(f->panels);
    f->panels = NULL;
}

/* y (rows x columns) = or += x w for the columns of one panel, which starts at column `from`. */
static inline void multiply_panel(int64_t rows, const real *x, int64_t depth, const real *panel,
                                  int64_t from, int64_t columns, int add, real *y) {
    const int64_t width = min64(PANEL, columns - from);
    real tile[TILE_ROWS * PANEL]; /* whole vectors must not run over the end of a row of y */
    for (int64_t k = 0; k < depth; k += PANEL_DEPTH) {
        const int64_t size = min64(PANEL_DEPTH, depth - k);
        const int sum = add || k > 0;
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            const int64_t height = min64(TILE_ROWS, rows - i);
            const left_factor left = {x + i * depth + k, depth, 1};
            real *target = y + i * columns + from;
            if (width % LANES == 0) {
                tile_product(height, width, size, left, panel + k * PANEL, PANEL, sum, target,
                             columns);
                continue;
            }
            tile_product(height, round_up(width, LANES), size, left, panel + k * PANEL, PANEL, 0,
                         tile, PANEL);
            for (int64_t r = 0; r < height; r++)
                for (int64_t j = 0; j < width; j++)
                    target[r * columns + j] =
                        tile[r * PANEL + j] + (sum ? target[r * columns + j] : 0);
        }
    }
}

/* y (rows x columns) = or += x w; panels are the independent work. */
static inline void multiply(int64_t rows, const real *x, const factor *f, int add, real *y) {
    if (f->columns == 0) return;
    if (f->half) {
        KERNEL(gemm_half)(rows, f->columns, f->depth, x, f->w, add, y);
        return;
    }
    if (!f->panels) {
        KERNEL(gemm)(0, f->transposed, rows, f->columns, f->depth, 1, x, f->depth, f->w,
                     f->transposed ? f->depth : f->columns, add, y, f->columns);
        return;
    }
    const int64_t count = (f->columns + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) if (rows * f->depth * f->columns > 1000000)
    for (int64_t panel = 0; panel < count; panel++)
        multiply_panel(rows, x, f->depth, f->panels + panel * f->depth * PANEL, panel * PANEL,
                       f->columns, add, y);
}

#endif
