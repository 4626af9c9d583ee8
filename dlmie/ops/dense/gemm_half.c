/* Products with a matrix of weights in half precision (half.h).
 *
 * Few rows read it as it lies (gemm.c).  For more rows a thread widens a panel of columns into the
 * order of the register tile (tile.h), where it stays in the cache until all rows have met it
 * (Goto and van de Geijn 2008): in single precision the matrix is never in memory.
 */
#include "half.h"
#include "panels.h"

/* Columns from .. from + width of w (depth x columns) -> depth rows of PANEL; the rest are zero. */
static void widen_panel(int64_t depth, int64_t columns, int64_t from, int64_t width, const half *w,
                        real *panel) {
    for (int64_t k = 0; k < depth; k++) {
        const half *row = w + k * columns + from;
        int64_t j = 0;
        for (; j + LANES <= width; j += LANES) store(panel + k * PANEL + j, load_half(row + j));
        for (; j < width; j++) panel[k * PANEL + j] = widen(row[j]);
        for (; j < PANEL; j++) panel[k * PANEL + j] = 0;
    }
}

void KERNEL(gemm_half)(int64_t m, int64_t n, int64_t k, const real *a, const half *b,
                       int accumulate, real *c) {
    if (m == 0 || n == 0 || k == 0) return;
    size_t size;
    const int threads = inside_parallel() ? 1 : thread_count();
    const size_t room = sizeof(real) * (size_t)(k * PANEL);
    real *panels = m <= FEW_ROWS ? NULL : dlmie_take(room * (size_t)threads, &size);
    if (!panels) { /* few rows, or no memory: then any number */
        KERNEL(gemm_few_rows)(m, n, k, a, k, b, n, 1, accumulate, c, n);
        return;
    }
    const int64_t count = (n + PANEL - 1) / PANEL;
#pragma omp parallel num_threads(threads) if (threads > 1 && (double)m * n * k > 1e6)
    {
#ifdef _OPENMP
        real *panel = panels + omp_get_thread_num() * k * PANEL;
#else
        real *panel = panels;
#endif
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count; i++) {
            const int64_t width = min64(PANEL, n - i * PANEL);
            widen_panel(k, n, i * PANEL, width, b, panel);
            multiply_panel(m, a, k, panel, i * PANEL, n, accumulate, c);
        }
    }
    dlmie_give(panels, size);
}

#ifndef DLMIE_DOUBLE /* once, not for each precision */
/* Whether weights in half precision are widened by instructions for it. */
EXPORT int dlmie_reads_half(void) { return READS_HALF; }
#endif
