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

/* The right factor of y = x w: w (depth x columns), stored so or as its transpose. */
typedef struct {
    const real *w;
    int transposed;
    int64_t depth, columns;
    real *panels; /* panel after panel, depth rows each; NULL: not worth it, or no memory */
} factor;

static void fill_panel(const factor *f, int64_t panel) {
    real *target = f->panels + panel * f->depth * PANEL;
    const int64_t from = panel * PANEL, width = min64(PANEL, f->columns - from);
    if (width < PANEL) memset(target, 0, sizeof(real) * (size_t)(f->depth * PANEL));
    if (!f->transposed) {
        for (int64_t k = 0; k < f->depth; k++)
            memcpy(target + k * PANEL, f->w + k * f->columns + from, sizeof(real) * (size_t)width);
        return;
    }
    for (int64_t k = 0; k < f->depth; k += LANES) /* a few rows at a time: they stay in the cache */
        for (int64_t j = 0; j < width; j++)
            for (int64_t i = k; i < min64(k + LANES, f->depth); i++)
                target[i * PANEL + j] = f->w[(from + j) * f->depth + i];
}

/* Prepare w (rows x columns), or with `transpose` w', for that many products. */
static factor prepare(const real *w, int64_t rows, int64_t columns, int transpose, int64_t uses) {
    factor f = {w, transpose, transpose ? columns : rows, transpose ? rows : columns, NULL};
    if (uses < 4 || f.columns < LANES) return f;
    const int64_t count = (f.columns + PANEL - 1) / PANEL;
    void *panels = NULL;
    if (posix_memalign(&panels, 64, sizeof(real) * (size_t)(count * PANEL * f.depth))) return f;
    f.panels = panels;
#pragma omp parallel for schedule(static) if (rows * columns > 50000)
    for (int64_t panel = 0; panel < count; panel++) fill_panel(&f, panel);
    return f;
}

static void release(factor *f) {
    free(f->panels);
    f->panels = NULL;
}

/* y (rows x columns) = or += x w for one panel of w. */
static void multiply_panel(int64_t rows, const real *x, const factor *f, int64_t panel, int add,
                           real *y) {
    const int64_t columns = min64(PANEL, f->columns - panel * PANEL);
    const real *b = f->panels + panel * f->depth * PANEL;
    real tile[TILE_ROWS * PANEL]; /* whole vectors must not run over the end of a row of y */
    for (int64_t k = 0; k < f->depth; k += PANEL_DEPTH) {
        const int64_t depth = min64(PANEL_DEPTH, f->depth - k);
        const int sum = add || k > 0;
        for (int64_t i = 0; i < rows; i += TILE_ROWS) {
            const int64_t height = min64(TILE_ROWS, rows - i);
            const left_factor left = {x + i * f->depth + k, f->depth, 1};
            real *target = y + i * f->columns + panel * PANEL;
            if (columns % LANES == 0) {
                tile_product(height, columns, depth, left, b + k * PANEL, PANEL, sum, target,
                             f->columns);
                continue;
            }
            tile_product(height, round_up(columns, LANES), depth, left, b + k * PANEL, PANEL, 0,
                         tile, PANEL);
            for (int64_t r = 0; r < height; r++)
                for (int64_t j = 0; j < columns; j++)
                    target[r * f->columns + j] =
                        tile[r * PANEL + j] + (sum ? target[r * f->columns + j] : 0);
        }
    }
}

/* y (rows x columns) = or += x (rows x depth) w; panels are the independent work. */
static void multiply(int64_t rows, const real *x, const factor *f, int add, real *y) {
    if (f->columns == 0) return;
    if (!f->panels) {
        KERNEL(gemm)(0, f->transposed, rows, f->columns, f->depth, 1, x, f->depth, f->w,
                     f->transposed ? f->depth : f->columns, add, y, f->columns);
        return;
    }
    const int64_t count = (f->columns + PANEL - 1) / PANEL;
#pragma omp parallel for schedule(static) if (rows * f->depth * f->columns > 1000000)
    for (int64_t panel = 0; panel < count; panel++) multiply_panel(rows, x, f, panel, add, y);
}

#endif
