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

typedef struct {
    const real *data;
    int64_t pitch; /* elements from one row to the next */
} matrix;

/* target (rows x columns) = source' */
static inline void transpose_block(matrix source, int64_t rows, int64_t columns, real *target,
                                   int64_t pitch) {
    if (rows == LANES && columns == LANES) {
        vec v[LANES];
        for (int l = 0; l < LANES; l++) v[l] = load(source.data + l * source.pitch);
        transpose(v);
        for (int l = 0; l < LANES; l++) store(target + l * pitch, v[l]);
        return;
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            target[i * pitch + j] = source.data[j * source.pitch + i];
}

/* Rows [first, first + depth) and `width` columns of op(b) -> panel, `pitch` columns, zero where there
 * are none. */
static inline void fill_panel(int transposed, matrix b, int64_t first, int64_t depth,
                              int64_t column, int64_t width, int64_t pitch, real *panel) {
    const int64_t whole = width / LANES * LANES;
    if (width < pitch) memset(panel, 0, (size_t)(depth * pitch) * sizeof(real));
    if (!transposed) {
        const real *source = b.data + first * b.pitch + column;
        for (int64_t k = 0; k < depth; k++, source += b.pitch, panel += pitch) {
            for (int64_t j = 0; j < whole; j += LANES) store(panel + j, load(source + j));
            for (int64_t j = whole; j < width; j++) panel[j] = source[j];
        }
        return;
    }
    for (int64_t j = 0; j < width; j += LANES)
        for (int64_t k = 0; k < depth; k += LANES) {
            const matrix source = {b.data + (column + j) * b.pitch + first + k, b.pitch};
            transpose_block(source, min64(LANES, depth - k), min64(LANES, width - j),
                            panel + k * pitch + j, pitch);
        }
}

/* The right factor of y = x w: w (depth x columns), stored so or as its transpose; in half precision
 * (half.h) it is not transposed. */
typedef struct {
    const void *w;
    int half, transposed;
    int64_t depth, columns;
    real *panels; /* panel after panel, depth rows each; NULL: not worth it, or no memory */
} factor;

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
    for (int64_t j = 0; j < f.columns; j += PANEL)
        fill_panel(transpose, (matrix){w->data, columns}, 0, f.depth, j,
                   min64(PANEL, f.columns - j), PANEL, f.panels + j * f.depth);
    return f;
}

static inline void release(factor *f) {
    free(f->panels);
    f->panels = NULL;
}

/* y (rows x columns) = or += x w for the columns of one panel. */
static inline void multiply_panel(int64_t rows, const real *x, const factor *f, int64_t panel,
                                  int add, real *y) {
    const int64_t from = panel * PANEL, width = min64(PANEL, f->columns - from);
    const real *w = f->panels + from * f->depth;
    for (int64_t k = 0; k < f->depth; k += PANEL_DEPTH)
        panel_product(rows, width, min64(PANEL_DEPTH, f->depth - k),
                      (left_factor){x + k, f->depth, 1}, w + k * PANEL, PANEL, add || k > 0,
                      y + from, f->columns);
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
        multiply_panel(rows, x, f, panel, add, y);
}

#endif
