/* The one interface between dlmie's kernels and the world.
 *
 * Every .c file of this folder is compiled twice, for float and for double, into one shared
 * library.  A kernel NAME is a pair of functions:
 *
 *   NAME_shape  checks its inputs and fills in the shapes of its outputs,
 *   NAME        computes; every tensor is C-contiguous, outputs are allocated and uninitialized.
 *
 * Both return 0, or 1 after writing one line to `error`.  `p` holds the integer parameters of the
 * operation (strides, flags, ...) in the order its Python half lists them.  PyTensor calls
 * kernels through runtime/invocation.py; tests and sanitizers call the same functions through ctypes.
 * Nothing here knows Python.
 */
#ifndef DLMIE_KERNELS_H
#define DLMIE_KERNELS_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#define MAX_DIMS 6
#define ERROR_SIZE 256

typedef struct {
    void *data;
    int64_t ndim;
    int64_t shape[MAX_DIMS];
    int64_t half; /* whether its numbers are stored in half precision; see half.h */
} tensor;

#ifdef DLMIE_DOUBLE
typedef double real;
#define KERNEL(name) name##_f64
#define GEMM dgemm
#else
typedef float real;
#define KERNEL(name) name##_f32
#define GEMM sgemm
#endif

#define EXPORT __attribute__((visibility("default")))
#define SHAPE_ARGUMENTS const tensor *in, tensor *out, const int64_t *p, char *error
#define KERNEL_ARGUMENTS SHAPE_ARGUMENTS

/* Functions that do not touch an argument of the common interface say so. */
#define UNUSED(x) (void)(x)

/* Refuse with one line, printf style. */
#define REFUSE(...) do { snprintf(error, ERROR_SIZE, __VA_ARGS__); return 1; } while (0)

static inline int64_t count(const tensor *t) {
    int64_t n = 1;
    for (int64_t i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

static inline void set_shape(tensor *t, int64_t ndim, const int64_t *shape) {
    t->ndim = ndim;
    for (int64_t i = 0; i < ndim; i++) t->shape[i] = shape[i];
}

/* Shape as a literal: SET_SHAPE(&out[0], batch, height, width). */
#define SET_SHAPE(t, ...) \
    set_shape((t), (int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* A number among the parameters: the bits of a double. */
static inline double number(int64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline int thread_count(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static inline int inside_parallel(void) {
#ifdef _OPENMP
    return omp_in_parallel();
#else
    return 0;
#endif
}

/* Blocks of memory that are kept when given back (memory.c); any thread may call. */
EXPORT void *dlmie_take(size_t size, size_t *actual);
EXPORT void dlmie_give(void *block, size_t size);

/* C (m x n, row stride ldc) = alpha * op(A) * op(B) + beta * C, all row-major; op transposes where
 * its flag is set.  gemm_serial runs on the calling thread (call it inside a parallel region);
 * gemm splits C over the OpenMP threads, so that BLAS's own threads never compete with ours. */
void KERNEL(gemm_serial)(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k,
                         real alpha, const real *a, int64_t lda, const real *b, int64_t ldb,
                         real beta, real *c, int64_t ldc);
void KERNEL(gemm)(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k,
                  real alpha, const real *a, int64_t lda, const real *b, int64_t ldb,
                  real beta, real *c, int64_t ldc);

/* C (m x n) = or += A B for a B in half precision; all matrices are contiguous. */
void KERNEL(gemm_half)(int64_t m, int64_t n, int64_t k, const real *a, const uint16_t *b,
                       int accumulate, real *c);

/* C = or += A B for any number of rows of A, few of which are fast, and a B in either precision;
 * serial as above. */
#define FEW_ROWS 12 /* up to so many it is faster to read B as it lies */
void KERNEL(gemm_few_rows_serial)(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
                                  const void *b, int64_t ldb, int half, int accumulate, real *c,
                                  int64_t ldc);
void KERNEL(gemm_few_rows)(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda,
                           const void *b, int64_t ldb, int half, int accumulate, real *c,
                           int64_t ldc);

/* gemm_panels.c: gemm with alpha 1, and beta 0 or, to accumulate, 1, and a B in either precision, in
 * half precision not transposed; returns 1 without memory. */
int KERNEL(gemm_panels)(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k,
                        const real *a, int64_t lda, const void *b, int64_t ldb, int half,
                        int accumulate, real *c, int64_t ldc);

#endif
