/* Matrix products over one thread pool.
 *
 * BLAS libraries bring threads of their own, which spin after each call and fight with OpenMP's
 * for the cores.  dlmie therefore keeps BLAS single-threaded and divides the output among the
 * OpenMP threads itself: panels of rows or of columns, whichever is longer, a multiple of 16 wide
 * so that the inner kernels of BLAS stay full.  The division depends on the shape and the number
 * of threads only: results repeat from run to run.
 *
 * A product of a few rows with a large matrix, as in every step of decoding, is bound by reading
 * that matrix.  BLAS would first copy it into the order of its inner loop; here it is read in place,
 * along its rows: what a processor fetches ahead are neighbors, not the columns of a tile.  It may be
 * stored in half precision (half.h); the sums are the same.  Some more rows, as in a step of training,
 * meet it in panels (gemm_panels.c).
 */
#include "half.h"

enum {
    ROWS = 6, DEPTH = 8,   /* rows of a and of b that are worked on side by side */
    PARTS = 4,             /* of a large b, for as many threads */
    STRIP_BYTES = 1 << 18, /* of c that are summed at a time: they stay in the cache */
    TOGETHER = 1024,       /* columns whose parts a thread adds */
    /* Panels of b (gemm_panels.c) are faster than BLAS where so many rows, or so many elements, of a
     * meet them: a then stays in the cache of a core as it lies. */
    SOME_ROWS = 256, SMALL = 1 << 18, FEWER_LINES = 256,
};

/* Fortran interface: a BLAS may decorate its names (scipy-openblas32 prefixes scipy_). */
#ifndef BLAS_SYMBOL
#define BLAS_SYMBOL(name) name##_
#endif
#define BLAS_JOIN(name) BLAS_SYMBOL(name)

#ifdef DLMIE_BLAS
extern void BLAS_JOIN(GEMM)(const char *, const char *, const int *, const int *, const int *,
                            const real *, const real *, const int *, const real *, const int *,
                            const real *, real *, const int *);

void KERNEL(gemm_serial)(int ta, int tb, int64_t m, int64_t n, int64_t k, real alpha,
                         const real *a, int64_t lda, const real *b, int64_t ldb, real beta,
                         real *c, int64_t ldc) {
    if (m == 0 || n == 0) return;
    /* Row-major C = A B is column-major C' = B' A'. */
    int m_ = (int)m, n_ = (int)n, k_ = (int)k;
    int lda_ = (int)max64(lda, 1), ldb_ = (int)max64(ldb, 1), ldc_ = (int)max64(ldc, 1);
    BLAS_JOIN(GEMM)(tb ? "T" : "N", ta ? "T" : "N", &n_, &m_, &k_, &alpha, b, &ldb_, a, &lda_,
                    &beta, c, &ldc_);
}
#else
/* No BLAS to link with: the plain triple loop, ordered so that the inner loop runs along rows. */
void KERNEL(gemm_serial)(int ta, int tb, int64_t m, int64_t n, int64_t k, real alpha,
                         const real *a, int64_t lda, const real *b, int64_t ldb, real beta,
                         real *c, int64_t ldc) {
    for (int64_t i = 0; i < m; i++) {
        real *row = c + i * ldc;
        for (int64_t j = 0; j < n; j++) row[j] = beta == 0 ? 0 : beta * row[j];
        for (int64_t l = 0; l < k; l++) {
            const real w = alpha * (ta ? a[l * lda + i] : a[i * lda + l]);
            if (tb)
                for (int64_t j = 0; j < n; j++) row[j] += w * b[j * ldb + l];
            else
                for (int64_t j = 0; j < n; j++) row[j] += w * b[l * ldb + j];
        }
    }
}
#endif

/* The right factor of few rows, in either precision. */
typedef struct {
    const void *data;
    int64_t stride;
    int half;
} right_factor;

static inline right_factor part_of(right_factor b, int64_t row, int64_t column) {
    const size_t size = b.half ? sizeof(half) : sizeof(real);
    return (right_factor){(const char *)b.data + (size_t)(row * b.stride + column) * size, b.stride,
                          b.half};
}

static inline real element(right_factor b, int64_t row, int64_t column) {
    const int64_t i = row * b.stride + column;
    return b.half ? widen(((const half *)b.data)[i]) : ((const real *)b.data)[i];
}

/* A strip of columns: c (rows x n) = or += a (rows x DEPTH) b (DEPTH x n), where a's elements stay in
 * registers and b is read along its rows. */
static inline __attribute__((always_inline)) void
strip(const int rows, const int is_half, int64_t n, const real *a, int64_t lda, right_factor b,
      int accumulate, real *c, int64_t ldc) {
    vec left[ROWS][DEPTH];
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < DEPTH; k++) left[i][k] = broadcast(a[i * lda + k]);
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        vec sums[ROWS];
        for (int i = 0; i < rows; i++) sums[i] = accumulate ? load(c + i * ldc + j) : (vec){0};
        for (int k = 0; k < DEPTH; k++) {
            const int64_t at = k * b.stride + j;
            const vec right = is_half ? load_half((const half *)b.data + at)
                                      : load((const real *)b.data + at);
            for (int i = 0; i < rows; i++) sums[i] = add_product(sums[i], left[i][k], right);
        }
        for (int i = 0; i < rows; i++) store(c + i * ldc + j, sums[i]);
    }
    for (; j < n; j++)
        for (int i = 0; i < rows; i++) {
            real sum = accumulate ? c[i * ldc + j] : 0;
            for (int k = 0; k < DEPTH; k++) sum += a[i * lda + k] * element(b, k, j);
            c[i * ldc + j] = sum;
        }
}

/* Call `strip` with a constant number of rows and precision. */
#define STRIP(rows, ...)                                                                          \
    if (right.half) strip(rows, 1, __VA_ARGS__);                                                  \
    else strip(rows, 0, __VA_ARGS__);                                                             \
    break

/* The same for any number of rows and columns and any depth. */
static void strips(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda, right_factor b,
                   int accumulate, real *c, int64_t ldc) {
    const int64_t width = round_up(STRIP_BYTES / (int64_t)sizeof(real) / m, LANES);
    for (int64_t j = 0; j < n; j += width)
        for (int64_t l = 0; l + DEPTH <= k; l += DEPTH)
            for (int64_t i = 0; i < m; i += ROWS) {
                const real *left = a + i * lda + l;
                const right_factor right = part_of(b, l, j);
                real *target = c + i * ldc + j;
                const int64_t columns = min64(width, n - j);
                const int sum = accumulate || l > 0;
                switch (min64(m - i, ROWS)) {
                case 1: STRIP(1, columns, left, lda, right, sum, target, ldc);
                case 2: STRIP(2, columns, left, lda, right, sum, target, ldc);
                case 3: STRIP(3, columns, left, lda, right, sum, target, ldc);
                case 4: STRIP(4, columns, left, lda, right, sum, target, ldc);
                case 5: STRIP(5, columns, left, lda, right, sum, target, ldc);
                default: STRIP(ROWS, columns, left, lda, right, sum, target, ldc);
                }
            }
    for (int64_t l = k / DEPTH * DEPTH; l < k; l++)
        for (int64_t i = 0; i < m; i++) {
            const real w = a[i * lda + l];
            for (int64_t j = 0; j < n; j++)
                c[i * ldc + j] = (accumulate || l > 0 ? c[i * ldc + j] : 0) + w * element(b, l, j);
        }
}

void KERNEL(gemm_few_rows_serial)(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
                                  const void *b, int64_t ldb, int half, int accumulate, real *c,
                                  int64_t ldc) {
    strips(m, n, k, a, lda, (right_factor){b, ldb, half}, accumulate, c, ldc);
}

/* A thread reads whole rows of b, a part of them: two threads that read side by side in the same rows
 * are hardly faster than one.  The parts are the same for any number of threads, and so are the sums;
 * who is late finds fewer left. */
void KERNEL(gemm_few_rows)(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
                           const void *b, int64_t ldb, int half, int accumulate, real *c,
                           int64_t ldc) {
    const right_factor right = {b, ldb, half};
    const int large = (double)m * n * k > 5e5;
    const int64_t depth = large ? round_up((k + PARTS - 1) / PARTS, DEPTH) : k;
    const int64_t parts = (k + depth - 1) / depth;
    size_t size;
    real *others = parts == 1 ? NULL : dlmie_take(sizeof(real) * (size_t)((parts - 1) * m * n), &size);
    if (!others) {
        strips(m, n, k, a, lda, right, accumulate, c, ldc);
        return;
    }
    const int64_t groups = (thread_count() + PARTS - 1) / PARTS; /* of threads, side by side in rows */
    const int64_t columns = round_up((n + groups - 1) / groups, LANES);
#pragma omp parallel if (!inside_parallel())
    {
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t part = 0; part < parts; part++)
            for (int64_t j = 0; j < n; j += columns) {
                const int64_t l = part * depth;
                real *sums = part ? others + (part - 1) * m * n : c;
                strips(m, min64(columns, n - j), min64(depth, k - l), a + l, lda,
                       part_of(right, l, j), part == 0 && accumulate, sums + j, part ? n : ldc);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t i = 0; i < m; i++)
            for (int64_t from = 0; from < n; from += TOGETHER)
                for (int64_t part = 1; part < parts; part++) {
                    const real *sums = others + ((part - 1) * m + i) * n;
                    for (int64_t j = from; j < min64(from + TOGETHER, n); j++)
                        c[i * ldc + j] += sums[j];
                }
    }
    dlmie_give(others, size);
}

void KERNEL(gemm)(int ta, int tb, int64_t m, int64_t n, int64_t k, real alpha, const real *a,
                  int64_t lda, const real *b, int64_t ldb, real beta, real *c, int64_t ldc) {
    if (!ta && !tb && alpha == 1 && m <= FEW_ROWS && (beta == 0 || beta == 1) && m * n * k > 0) {
        KERNEL(gemm_few_rows)(m, n, k, a, lda, b, ldb, 0, beta == 1, c, ldc);
        return;
    }
    const int threads = thread_count();
    /* Below about 30 microseconds of work, waking a thread costs more than it brings. */
    const int worth_sharing = !inside_parallel() && (double)m * n * k >= 1e6;
    /* Panels of short vectors are narrow: of a long b as it lies they read a line here and there. */
    const int scattered = VECTOR_BYTES < 64 && !ta && !tb && k > FEWER_LINES;
    const int cached = m <= SOME_ROWS || m * k <= SMALL;
    if (worth_sharing && cached && !scattered && alpha == 1 && (beta == 0 || beta == 1) &&
        !KERNEL(gemm_panels)(ta, tb, m, n, k, a, lda, b, ldb, 0, beta == 1, c, ldc))
        return;
    if (threads == 1 || !worth_sharing) {
        KERNEL(gemm_serial)(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        return;
    }
    const int by_rows = m >= n;
    const int64_t length = by_rows ? m : n;
    const int64_t panel = ((length + threads - 1) / threads + 15) / 16 * 16;
    const int64_t panels = (length + panel - 1) / panel;
#pragma omp parallel for schedule(static, 1)
    for (int64_t i = 0; i < panels; i++) {
        const int64_t from = i * panel, size = min64(panel, length - from);
        if (by_rows)
            KERNEL(gemm_serial)(ta, tb, size, n, k, alpha, a + (ta ? from : from * lda), lda,
                                b, ldb, beta, c + from * ldc, ldc);
        else
            KERNEL(gemm_serial)(ta, tb, m, size, k, alpha, a, lda,
                                b + (tb ? from * ldb : from), ldb, beta, c + from, ldc);
    }
}

void KERNEL(gemm_half)(int64_t m, int64_t n, int64_t k, const real *a, const half *b,
                       int accumulate, real *c) {
    if (m == 0 || n == 0 || k == 0) return;
    if (m > FEW_ROWS && !KERNEL(gemm_panels)(0, 0, m, n, k, a, k, b, n, 1, accumulate, c, n)) return;
    KERNEL(gemm_few_rows)(m, n, k, a, k, b, n, 1, accumulate, c, n);
}

/* matmul(A, B) -> C; p = {transpose A, transpose B}; a B in half precision is not transposed. */
EXPORT int KERNEL(matmul_shape)(SHAPE_ARGUMENTS) {
    const int ta = p[0] != 0, tb = p[1] != 0;
    if (in[0].ndim != 2 || in[1].ndim != 2) REFUSE("matmul: both operands must be matrices");
    const int64_t k = in[0].shape[!ta], k_b = in[1].shape[tb];
    if (k != k_b)
        REFUSE("matmul: inner sizes differ, %lld and %lld", (long long)k, (long long)k_b);
    if (in[1].half && (ta || tb)) REFUSE("matmul: in half precision nothing is transposed");
    SET_SHAPE(&out[0], in[0].shape[ta], in[1].shape[!tb]);
    return 0;
}

EXPORT int KERNEL(matmul)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int ta = p[0] != 0, tb = p[1] != 0;
    const int64_t m = out[0].shape[0], n = out[0].shape[1], k = in[0].shape[!ta];
    if (k == 0) {
        memset(out[0].data, 0, sizeof(real) * (size_t)(m * n));
        return 0;
    }
    if (in[1].half)
        KERNEL(gemm_half)(m, n, k, in[0].data, in[1].data, 0, out[0].data);
    else
        KERNEL(gemm)(ta, tb, m, n, k, 1, in[0].data, in[0].shape[1], in[1].data, in[1].shape[1], 0,
                     out[0].data, n);
    return 0;
}

#ifndef DLMIE_DOUBLE /* once, not for each precision */
EXPORT void dlmie_set_threads(int threads) {
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    UNUSED(threads);
#endif
}

EXPORT int dlmie_get_threads(void) { return thread_count(); }

/* Whether weights in half precision are widened by instructions for it. */
EXPORT int dlmie_reads_half(void) { return READS_HALF; }
#endif
