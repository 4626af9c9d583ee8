/* Weights in half precision (IEEE 754 binary16), which are widened as they are read.
 *
 * A product of a few rows waits for its large matrix.  Where the weights lose nothing by it they are
 * stored so: half the memory is read, every number stays what it was, and so does every sum of a few
 * rows.
 */
#ifndef DLMIE_HALF_H
#define DLMIE_HALF_H

#include "vectors.h"

#if !defined(DLMIE_DOUBLE) && (defined(__AVX512F__) || (defined(__F16C__) && LANES == 8))
#define READS_HALF 1 /* whole vectors at a time */
#include <immintrin.h>
#elif !defined(DLMIE_DOUBLE) && defined(__aarch64__)
#define READS_HALF 1
#include <arm_neon.h>
#else
#define READS_HALF 0
#endif

typedef uint16_t half;

/* One number.  A float has the same layout with three more bits of exponent and 13 of mantissa: the
 * bits moved there name a number that is 2^112 too small, subnormal ones included. */
static inline real widen(half h) {
    const uint32_t size = h & 0x7fff, sign = (uint32_t)(h & 0x8000) << 16;
    const union { uint32_t bits; float value; } small = {size << 13}, endless = {size << 13 | 0x7f800000};
    union { float value; uint32_t bits; } u = {size < 0x7c00 ? small.value * 0x1p112f : endless.value};
    u.bits |= sign;
    return (real)u.value;
}

/* As many as a vector holds. */
static inline vec load_half(const half *p) {
#if READS_HALF && defined(__AVX512F__)
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif READS_HALF && defined(__F16C__)
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#elif READS_HALF
    return (vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
    vec v;
    for (int l = 0; l < LANES; l++) v[l] = widen(p[l]);
    return v;
#endif
}

#endif
