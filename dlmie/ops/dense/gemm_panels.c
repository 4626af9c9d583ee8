/* Matrix products by panels of the right factor.
 *
 *   K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008)
 *
 * A panel, PANEL columns wide and so deep that it and the rows of the left factor that it meets stay
 * in a core's own cache, is copied into the order of the inner loop; then tiles of tile.h go down the
 * rows.  A right factor in half precision (half.h) is widened as it is copied.  Panels, and parts of the rows where there are few panels, are the independent work: each
 * number is summed in one order, whatever the number of threads.
 */
#include "half.h"
#include "tile.h"

enum {
    LEFT_BYTES = 1 << 20, /* of the left factor that a panel meets */
    MOST_DEPTH = 1024, LEAST_DEPTH = 128,
    ENOUGH_WORK = 16, /* pieces for threads to share, of so many rows at least: */
    FEWEST_ROWS = 16 * TILE_ROWS
};

typedef struct {
    const real *data;
    int64_t pitch; /* elements from one row to the next */
} matrix;

/* target (rows x columns) = source' */
static void transpose_block(matrix source, int64_t rows, int64_t columns, real *target,
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
static void fill_panel(int transposed, matrix b, int64_t first, int64_t depth, int64_t column,
                       int64_t width, int64_t pitch, real *panel) {
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

/* The same of a b in half precision, which is not transposed. */
static void widen_panel(const half *b, int64_t ldb, int64_t first, int64_t depth, int64_t column,
                        int64_t width, int64_t pitch, real *panel) {
    const int64_t whole = width / LANES * LANES;
    const half *source = b + first * ldb + column;
    for (int64_t k = 0; k < depth; k++, source += ldb, panel += pitch) {
        for (int64_t j = 0; j < whole; j += LANES) store(panel + j, load_half(source + j));
        for (int64_t j = whole; j < width; j++) panel[j] = widen(source[j]);
        for (int64_t j = width; j < pitch; j++) panel[j] = 0;
    }
}

/* c (rows x width) = or += a (rows x depth) panel. */
static void multiply_panel(int64_t rows, int64_t width, int64_t depth, matrix a, const real *panel,
                           int64_t pitch, int accumulate, real *c, int64_t ldc) {
    real tile[TILE_ROWS * PANEL]; /* whole vectors must not run over the end of a row of c */
    for (int64_t i = 0; i < rows; i += TILE_ROWS) {
        const int64_t height = min64(TILE_ROWS, rows - i);
        const left_factor left = {a.data + i * a.pitch, a.pitch, 1};
        real *target = c + i * ldc;
        if (width == pitch) {
            tile_product(height, pitch, depth, left, panel, pitch, accumulate, target, ldc);
            continue;
        }
        tile_product(height, pitch, depth, left, panel, pitch, 0, tile, pitch);
        for (int64_t r = 0; r < height; r++)
            for (int64_t j = 0; j < width; j++)
                target[r * ldc + j] = tile[r * pitch + j] + (accumulate ? target[r * ldc + j] : 0);
    }
}

/* a' of a (k x m), on all threads; row after row. */
static void transpose_all(matrix a, int64_t m, int64_t k, real *target) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < m; i += LANES)
        for (int64_t l = 0; l < k; l += LANES)
            transpose_block((matrix){a.data + l * a.pitch + i, a.pitch}, min64(LANES, m - i),
                            min64(LANES, k - l), target + i * k + l, k);
}

int KERNEL(gemm_panels)(int ta, int tb, int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
                        const void *b, int64_t ldb, int half, int accumulate, real *c,
                        int64_t ldc) {
    const int64_t panels = (n + PANEL - 1) / PANEL;
    const int64_t wanted = max64(min64((ENOUGH_WORK + panels - 1) / panels, m / FEWEST_ROWS), 1);
    const int64_t part = round_up((m + wanted - 1) / wanted, TILE_ROWS);
    const int64_t fit = LEFT_BYTES / (int64_t)sizeof(real) / part;
    const int64_t most = min64(max64(fit, LEAST_DEPTH), MOST_DEPTH), pieces = (k + most - 1) / most;
    const int64_t depth = round_up((k + pieces - 1) / pieces, LANES);
    const int64_t turned = ta ? round_up(m * k, LANES) : 0;
    size_t size;
    real *memory = dlmie_take((size_t)(turned + depth * PANEL * thread_count()) * sizeof(real), &size);
    if (!memory) return 1;
    matrix left = {a, lda};
    if (ta) {
        transpose_all(left, m, k, memory);
        left = (matrix){memory, k};
    }
#pragma omp parallel if (!inside_parallel() && (double)m * n * k > 1e6)
    {
#ifdef _OPENMP
        real *panel = memory + turned + depth * PANEL * omp_get_thread_num();
#else
        real *panel = memory + turned;
#endif
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t j = 0; j < n; j += PANEL)
            for (int64_t i = 0; i < m; i += part)
                for (int64_t l = 0; l < k; l += depth) {
                    const int64_t width = min64(PANEL, n - j), some = min64(depth, k - l);
                    const int64_t pitch = round_up(width, LANES);
                    if (half)
                        widen_panel(b, ldb, l, some, j, width, pitch, panel);
                    else
                        fill_panel(tb, (matrix){b, ldb}, l, some, j, width, pitch, panel);
                    multiply_panel(min64(part, m - i), width, some,
                                   (matrix){left.data + i * left.pitch + l, left.pitch}, panel,
                                   pitch, accumulate || l > 0, c + i * ldc + j, ldc);
                }
    }
    dlmie_give(memory, size);
    return 0;
}
