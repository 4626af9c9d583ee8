/* Random numbers without hidden state.
 *
 * Element i of a random tensor is a hash of (key, i): the counter-based construction of Salmon et
 * al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), here with the SplitMix64 finaliser
 * (Steele, Lea and Flood, OOPSLA 2014).  The key is an input like any other, so a checkpoint saves
 * one integer, the backward pass draws the same mask again instead of storing it, and the result
 * does not depend on the number of threads.
 */
#include "kernels.h"

static inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Uniform 64-bit integer number i of the stream that (key, salt) names. */
static inline uint64_t draw(uint64_t stream, int64_t i) {
    return mix(stream + (uint64_t)i * UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t stream_of(const tensor *key, int64_t salt) {
    return mix(mix((uint64_t)*(const int64_t *)key->data) + (uint64_t)salt);
}

static int check_key(const tensor *key, char *error) {
    if (key->ndim != 0) REFUSE("noise: the key must be one integer");
    return 0;
}

/* dropout(x, key, rate) -> x / (1 - rate) where kept, else 0; p = {salt}. */
EXPORT int KERNEL(dropout_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return check_key(&in[1], error);
}

EXPORT int KERNEL(dropout)(KERNEL_ARGUMENTS) {
    const real *x = in[0].data;
    real *y = out[0].data;
    const double rate = *(const real *)in[2].data;
    if (!(rate >= 0 && rate < 1)) REFUSE("dropout: rate must be in [0, 1), not %g", rate);
    const uint64_t stream = stream_of(&in[1], p[0]);
    /* Kept when the upper 32 bits of the draw reach the threshold. */
    const uint64_t threshold = (uint64_t)(rate * 4294967296.0);
    const real scale = (real)(1 / (1 - rate));
    const int64_t n = count(&in[0]);
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (int64_t i = 0; i < n; i++) y[i] = (draw(stream, i) >> 32) >= threshold ? x[i] * scale : 0;
    return 0;
}

/* uniform(like, key) -> numbers in [0, 1), shaped like `like`; p = {salt}. */
EXPORT int KERNEL(uniform_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    set_shape(&out[0], in[0].ndim, in[0].shape);
    return check_key(&in[1], error);
}

EXPORT int KERNEL(uniform)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    real *y = out[0].data;
    const uint64_t stream = stream_of(&in[1], p[0]);
    const int64_t n = count(&in[0]);
#pragma omp parallel for simd schedule(static) if (n > 16384)
    for (int64_t i = 0; i < n; i++) /* 24 bits: exact in both precisions, never rounded up to 1 */
        y[i] = (real)((double)(draw(stream, i) >> 40) / 16777216.0);
    return 0;
}
