/* exp, tanh and the logistic function, written so that compilers vectorize the loops around them.
 *
 * The C library's versions are scalar calls, ten times slower in a loop.  These are plain
 * arithmetic: no branch, no table, no call.
 *
 *   vexp      e^x = 2^n e^r with n = round(x / ln 2) and r in [-ln 2 / 2, ln 2 / 2] reduced in two
 *             steps (Cody and Waite, 1980); e^r by a minimax polynomial.
 *   vtanh     float: x P(x^2) / Q(x^2), minimax of type (4, 4), on [-8.94, 8.94], beyond which
 *             tanh rounds to 1.  double: such a quotient below 0.625, else 1 - 2 / (e^2x + 1).
 *   vsigmoid  1 / (1 + e^-x).
 *
 * Largest errors in units of the last place of the true result, over all floats and over samples
 * of doubles (tests/ops/test_dense.py): exp 1, sigmoid 3; tanh 2 in double and 6 in float, which
 * is 3.2e-7 of the value and never beyond 1.  Infinities give the limits, NaN gives NaN; sigmoid
 * gives 0 where 1 + e^-x overflows.
 */
#ifndef DLMIE_VMATH_H
#define DLMIE_VMATH_H

#include "kernels.h"

/* x - n c, as two roundings at most, which the compiler must not merge with its neighbors
 * although it may reorder sums elsewhere (-fassociative-math). */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#ifdef DLMIE_DOUBLE
#define SUBTRACT_PRODUCT(x, n, c) __builtin_fma(-(n), c, x)
#else
#define SUBTRACT_PRODUCT(x, n, c) __builtin_fmaf(-(n), c, x)
#endif
#elif defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define SUBTRACT_PRODUCT(x, n, c) __builtin_assoc_barrier((x) - __builtin_assoc_barrier((n) * (c)))
#else
#define SUBTRACT_PRODUCT(x, n, c) ((x) - (n) * (c))
#endif

#ifdef DLMIE_DOUBLE

/* 2^n for -1022 <= n <= 1023, from the bits of the number. */
static inline double power_of_two(int64_t n) {
    const union { uint64_t bits; double value; } u = {(uint64_t)(n + 1023) << 52};
    return u.value;
}

/* x 2^n where both x and the result are normal numbers. */
static inline double add_to_exponent(double x, int64_t n) {
    union { double value; uint64_t bits; } u = {x};
    u.bits += (uint64_t)n << 52;
    return u.value;
}

static inline double vexp(double x) {
    double y = x > -746.0 ? x : -746.0; /* as well for NaN, put back at the end */
    y = y < 710.0 ? y : 710.0;
    const double n = rint(y * 1.4426950408889634);
    double r = SUBTRACT_PRODUCT(y, n, 0x1.62e42fee00000p-1); /* ln 2 to 32 bits, and the rest */
    r = SUBTRACT_PRODUCT(r, n, 0x1.a39ef35793c76p-33);
    double q = 2.49999669076472895e-8;
    q = q * r + 2.76303797389065513e-7;
    q = q * r + 2.75575873414545695e-6;
    q = q * r + 0.0000248014927594413336;
    q = q * r + 0.00019841269504759826;
    q = q * r + 0.0013888888943926108;
    q = q * r + 0.00833333333349563067;
    q = q * r + 0.0416666666665291745;
    q = q * r + 0.166666666666664102;
    q = q * r + 0.500000000000001072;
    q = q * r + 1.0;
    q = q * r + 1.0;
    const int64_t k = (int32_t)n, half = k >> 1; /* in two steps: 2^n may not be representable */
    const double e = add_to_exponent(q, half) * power_of_two(k - half);
    return x == x ? e : x;
}

static inline double vtanh(double x) {
    const double z = x * x;
    double p = -0.000199168452915258727, q = 0.000206523465438289906;
    p = p * z - 0.0204985832682139445;
    q = q * z + 0.0232910433759492729;
    p = p * z - 0.333333333333333327;
    q = q * z + 0.461495749804638189;
    q = q * z + 1.0;
    const double small = x + x * z * p / q;
    const double size = fabs(x);
    const double large = copysign(1.0 - 2.0 / (vexp(2.0 * size) + 1.0), x);
    return size < 0.625 ? small : large;
}

static inline double vtanh_unbounded(double x) {
    return vtanh(x);
}

#else

/* 2^n for -126 <= n <= 127, from the bits of the number. */
static inline float power_of_two(int32_t n) {
    const union { uint32_t bits; float value; } u = {(uint32_t)(n + 127) << 23};
    return u.value;
}

/* x 2^n where both x and the result are normal numbers. */
static inline float add_to_exponent(float x, int32_t n) {
    union { float value; uint32_t bits; } u = {x};
    u.bits += (uint32_t)n << 23;
    return u.value;
}

static inline float vexp(float x) {
    float y = x > -104.0f ? x : -104.0f; /* as well for NaN, put back at the end */
    y = y < 89.0f ? y : 89.0f;
    const float n = rintf(y * 1.44269504f);
    float r = SUBTRACT_PRODUCT(y, n, 0x1.62e400p-1f); /* ln 2 to 15 bits, and the rest */
    r = SUBTRACT_PRODUCT(r, n, 0x1.7f7d1cp-20f);
    float q = 0.00138144023f;
    q = q * r + 0.008368786196f;
    q = q * r + 0.04166839555f;
    q = q * r + 0.1666652005f;
    q = q * r + 0.4999999341f;
    q = q * r + 1.0f;
    q = q * r + 1.0f;
    const int32_t k = (int32_t)n, half = k >> 1; /* in two steps: 2^n may not be representable */
    const float e = add_to_exponent(q, half) * power_of_two(k - half);
    return x == x ? e : x;
}

/* Where tanh reaches 1: 8.94 and -8.94 (vmath.c).  Told these numbers, GCC makes three branches of what
 * are a minimum and a maximum, and masks of them in vectors. */
extern const float dlmie_tanh_top __attribute__((visibility("hidden")));
extern const float dlmie_tanh_bottom __attribute__((visibility("hidden")));

/* tanh but for the last rounding: may pass 1 by 6e-8.  For sums, where that does not matter. */
static inline float vtanh_unbounded(float x) {
    x = x > dlmie_tanh_top ? dlmie_tanh_top : x;
    x = x < dlmie_tanh_bottom ? dlmie_tanh_bottom : x;
    const float z = x * x;
    float p = 2.4043526e-08f, q = 1.3969826e-06f;
    p = p * z + 3.6957677e-05f;
    q = q * z + 0.00058843713f;
    p = p * z + 0.0062546665f;
    q = q * z + 0.046274014f;
    p = p * z + 0.23919693f;
    q = q * z + 0.8348961f;
    p = p * z + 1.7870983f;
    q = q * z + 1.7870983f;
    return x * p / q;
}

static inline float vtanh(float x) {
    float y = vtanh_unbounded(x);
    y = y > 1.0f ? 1.0f : y;
    return y < -1.0f ? -1.0f : y;
}

#endif

/* Square root without the detour over double. */
#ifdef DLMIE_DOUBLE
#define SQRT sqrt
#else
#define SQRT sqrtf
#endif

static inline real vsigmoid(real x) {
    return 1 / (1 + vexp(-x));
}

#endif
