/* Portable vectors: GCC's and Clang's vector extensions, as wide as the machine's registers. */
#ifndef DLMIE_VECTORS_H
#define DLMIE_VECTORS_H

#include "kernels.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16 /* SSE, NEON, or whatever the compiler makes of it */
#endif

#ifdef DLMIE_DOUBLE
#define LANES (VECTOR_BYTES / 8)
typedef int64_t lane_index;
#else
#define LANES (VECTOR_BYTES / 4)
typedef int32_t lane_index;
#endif

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef lane_index index_vec __attribute__((vector_size(VECTOR_BYTES)));
typedef vec unaligned_vec __attribute__((aligned(sizeof(real)), may_alias));

static inline vec load(const real *p) { return *(const unaligned_vec *)p; }
static inline void store(real *p, vec v) { *(unaligned_vec *)p = v; }
static inline vec broadcast(real x) { return x - (vec){0}; }

/* Lanes of a where the comparison holds, else of b. */
static inline vec choose(index_vec condition, vec a, vec b) {
    return (vec)((condition & (index_vec)a) | (~condition & (index_vec)b));
}

/* sum + a b, added in this very order: told that sums may be reordered (-fassociative-math), GCC makes
 * a tree of a short one, in which products and additions are no longer single operations. */
#if defined(__x86_64__) && defined(__AVX512F__)
#define IN_ORDER(v) __asm__("" : "+v"(v))
#elif defined(__x86_64__)
#define IN_ORDER(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define IN_ORDER(v) __asm__("" : "+w"(v))
#else
#define IN_ORDER(v) (void)0
#endif
static inline vec add_product(vec sum, vec a, vec b) {
    sum += a * b;
    IN_ORDER(sum);
    return sum;
}

static inline int64_t round_up(int64_t n, int64_t multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

/* Lanes of a and b picked by constant indices: 0 .. LANES - 1 are a's, the next LANES b's. */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (index_vec){__VA_ARGS__})
#endif
#if LANES == 16
#define EACH_LANE(f, d) f(d, 0), f(d, 1), f(d, 2), f(d, 3), f(d, 4), f(d, 5), f(d, 6), f(d, 7), \
    f(d, 8), f(d, 9), f(d, 10), f(d, 11), f(d, 12), f(d, 13), f(d, 14), f(d, 15)
#elif LANES == 8
#define EACH_LANE(f, d) f(d, 0), f(d, 1), f(d, 2), f(d, 3), f(d, 4), f(d, 5), f(d, 6), f(d, 7)
#elif LANES == 4
#define EACH_LANE(f, d) f(d, 0), f(d, 1), f(d, 2), f(d, 3)
#else
#define EACH_LANE(f, d) f(d, 0), f(d, 1)
#endif
#define LOW_HALVES(d, i) ((i) & (d) ? LANES + (i) - (d) : (i))
#define HIGH_HALVES(d, i) ((i) & (d) ? LANES + (i) : (i) + (d))

/* One stage: exchange the off-diagonal d x d blocks of every 2d x 2d block. */
#define EXCHANGE_BLOCKS(v, d)                                                                     \
    for (int i = 0; i < LANES; i++)                                                               \
        if (!(i & (d))) {                                                                         \
            const vec first = v[i], second = v[i + (d)];                                          \
            v[i] = SHUFFLE(first, second, EACH_LANE(LOW_HALVES, d));                              \
            v[i + (d)] = SHUFFLE(first, second, EACH_LANE(HIGH_HALVES, d));                       \
        }

/* Transpose a LANES x LANES matrix held in registers, one row a vector. */
static inline __attribute__((always_inline)) void transpose(vec *v) {
#if LANES >= 16
    EXCHANGE_BLOCKS(v, 8)
#endif
#if LANES >= 8
    EXCHANGE_BLOCKS(v, 4)
#endif
#if LANES >= 4
    EXCHANGE_BLOCKS(v, 2)
#endif
    EXCHANGE_BLOCKS(v, 1)
}

#endif
