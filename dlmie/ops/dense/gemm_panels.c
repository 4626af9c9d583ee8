/* Matrix products by panels of the right factor.
 *
 *   K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008)
 *
 * A panel, PANEL columns wide and so deep that it and the rows of the left factor that it meets stay
 * in a core's own cache, is copied into the order of the inner loop; then tiles of tile.h go down the
 * rows.  A right factor in half precision (half.h) is widened as it is copied.  Panels, and parts of the
 * rows where there are few panels, are the independent work: each number is summed in one order,
 * whatever the number of threads.
 */
#include "half.h"
#include "panels.h"

enum {
    LEFT_BYTES = 1 << 20, /* of the left factor that a panel meets */
    MOST_DEPTH = 1024, LEAST_DEPTH = 128,
    ENOUGH_WORK = 16, /* pieces for threads to share, of so many rows at least: */
    FEWEST_ROWS = 16 * TILE_ROWS
};

/* fill_panel of a b in half precision, which is not transposed. */
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
                    panel_product(min64(part, m - i), width, some,
                                  (left_factor){left.data + i * left.pitch + l, left.pitch, 1},
                                  panel, pitch, accumulate || l > 0, c + i * ldc + j, ldc);
                }
    }
    dlmie_give(memory, size);
    return 0;
}
