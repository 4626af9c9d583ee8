/* The inner loop of every convolution: a tile of a matrix product held in registers.
 *
 *   c (rows x columns) = or += a (rows x depth) . b (depth x columns)
 *
 * TILE_ROWS rows by up to TILE_VECTORS vectors of columns are summed in registers while b is read
 * along its rows and elements of a are broadcast: K. Goto, R. van de Geijn, "Anatomy of
 * high-performance matrix multiplication" (2008).  Unlike a BLAS call it needs no packing when its
 * callers make the factors in the right order, and small products keep their speed.
 */
#ifndef DLMIE_TILE_H
#define DLMIE_TILE_H

#include "vectors.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define TILE_ROWS 6
#define TILE_VECTORS 4 /* 24 of 32 registers */
#elif defined(__AVX__)
#define TILE_ROWS 6
#define TILE_VECTORS 2 /* 12 of 16 registers */
#else
#define TILE_ROWS 4
#define TILE_VECTORS 2
#endif
#define PANEL (TILE_VECTORS * LANES) /* columns of a full tile */

/* A strided view of the left factor: element (i, k) stands at data[i * row + k * step]. */
typedef struct {
    const real *data;
    int64_t row, step;
} left_factor;

/* sums += a . b; rows that are not there repeat the last one. */
static inline __attribute__((always_inline)) void tile_sums(const int vectors, int64_t rows,
                                                            int64_t depth, left_factor a,
                                                            const real *b, int64_t ldb,
                                                            vec sums[TILE_ROWS][TILE_VECTORS]) {
    const real *left[TILE_ROWS];
    for (int i = 0; i < TILE_ROWS; i++) left[i] = a.data + min64(i, rows - 1) * a.row;
    for (int64_t k = 0; k < depth; k++) {
        vec right[TILE_VECTORS];
        for (int j = 0; j < vectors; j++) right[j] = load(b + k * ldb + j * LANES);
        for (int i = 0; i < TILE_ROWS; i++) {
            const vec element = broadcast(left[i][k * a.step]);
            for (int j = 0; j < vectors; j++) sums[i][j] += element * right[j];
        }
    }
}

static inline __attribute__((always_inline)) void
product_of(const int vectors, int64_t rows, int64_t depth, left_factor a, const real *b,
           int64_t ldb, int accumulate, real *c, int64_t ldc) {
    vec sums[TILE_ROWS][TILE_VECTORS] = {{{0}}};
    tile_sums(vectors, rows, depth, a, b, ldb, sums);
    for (int i = 0; i < TILE_ROWS; i++) {
        if (i >= rows) break;
        for (int j = 0; j < vectors; j++) {
            real *target = c + i * ldc + j * LANES;
            store(target, accumulate ? load(target) + sums[i][j] : sums[i][j]);
        }
    }
}

/* Call `function` with a constant number of vectors, from the number of columns: a multiple of
 * LANES, at most PANEL. */
#if TILE_VECTORS == 4
#define FOR_COLUMNS(columns, function, ...)                                                       \
    switch ((columns) / LANES) {                                                                  \
    case 1: function(1, __VA_ARGS__); break;                                                      \
    case 2: function(2, __VA_ARGS__); break;                                                      \
    case 3: function(3, __VA_ARGS__); break;                                                      \
    default: function(4, __VA_ARGS__);                                                            \
    }
#else
#define FOR_COLUMNS(columns, function, ...)                                                       \
    if ((columns) == LANES) function(1, __VA_ARGS__);                                             \
    else function(2, __VA_ARGS__);
#endif

/* One tile of at most TILE_ROWS rows. */
static inline void tile_product(int64_t rows, int64_t columns, int64_t depth, left_factor a,
                                const real *b, int64_t ldb, int accumulate, real *c, int64_t ldc) {
    FOR_COLUMNS(columns, product_of, rows, depth, a, b, ldb, accumulate, c, ldc)
}

/* Any number of rows and up to PANEL columns; b holds whole vectors of them. */
static inline void panel_product(int64_t rows, int64_t columns, int64_t depth, left_factor a,
                                 const real *b, int64_t ldb, int accumulate, real *c, int64_t ldc) {
    const int64_t whole = round_up(columns, LANES);
    real tile[TILE_ROWS * PANEL]; /* whole vectors must not run over the end of a row of c */
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        const int64_t height = min64(TILE_ROWS, rows - i);
        const left_factor left = {a.data + i * a.row, a.row, a.step};
        real *target = c + i * ldc;
        if (columns == whole) {
            tile_product(height, columns, depth, left, b, ldb, accumulate, target, ldc);
            continue;
        }
        tile_product(height, whole, depth, left, b, ldb, 0, tile, PANEL);
        for (int64_t r = 0; r < height; r++)
            for (int64_t j = 0; j < columns; j++)
                target[r * ldc + j] = tile[r * PANEL + j] + (accumulate ? target[r * ldc + j] : 0);
    }
}

#endif
