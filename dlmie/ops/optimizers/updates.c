/* Rules that turn a gradient into a step, each in one pass over memory:
 *
 *   momentum  v <- mu v - rate g,                  step = v           (Polyak 1964)
 *   rmsprop   s <- rho s + (1 - rho) g^2,          step = -rate g / (sqrt s + eps)
 *                                                             (Tieleman & Hinton 2012)
 *   adam      m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2,
 *             step = -rate m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
 *                                                             (Kingma & Ba 2015, algorithm 1)
 *
 * The work is bound by memory.  So the slots are usually updated where they stand, and the
 * parameter, too, where the graph adds the step to it: each number is read once and written once.
 * Blocks of elements are the independent work, and their steps wait in a small buffer: outputs may
 * be the same memory as inputs.
 */
#include "vmath.h"

enum { MOMENTUM, RMSPROP, ADAM };

#define BLOCK 1024

/* 1 - beta^t to the last digit. */
static double correction(double beta, double t) {
    return beta == 0 ? 1 : -expm1(t * log(beta));
}

static void momentum(int64_t n, real rate, double mu, const real *g, const real *v, real *v_new,
                     real *step) {
    const real keep = (real)mu;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) step[i] = v_new[i] = keep * v[i] - rate * g[i];
}

static void rmsprop(int64_t n, real rate, double rho, double epsilon, const real *g, const real *s,
                    real *s_new, real *step) {
    const real keep = (real)rho, rest = (real)(1 - rho), eps = (real)epsilon;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        s_new[i] = keep * s[i] + rest * g[i] * g[i];
        step[i] = -rate * g[i] / (SQRT(s_new[i]) + eps);
    }
}

/* rate and scale: with the corrections of the means' bias towards 0. */
static void adam(int64_t n, real rate, real scale, double beta1, double beta2, double epsilon,
                 const real *g, const real *m, const real *v, real *m_new, real *v_new,
                 real *step) {
    const real keep1 = (real)beta1, rest1 = (real)(1 - beta1);
    const real keep2 = (real)beta2, rest2 = (real)(1 - beta2), eps = (real)epsilon;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        m_new[i] = keep1 * m[i] + rest1 * g[i];
        v_new[i] = keep2 * v[i] + rest2 * g[i] * g[i];
        step[i] = -rate * m_new[i] / (SQRT(v_new[i] * scale) + eps);
    }
}

/* rule([x, ]g, slot...; rate (), t (); rule, adds, three numbers as bits of doubles)
 *   -> x + step or, without x, step; new slots.  t counts updates, this one included. */
EXPORT int KERNEL(rule_shape)(SHAPE_ARGUMENTS) {
    const int slots = p[0] == ADAM ? 2 : 1, arrays = slots + 1 + (p[1] != 0);
    for (int i = 1; i < arrays; i++)
        for (int64_t d = 0; d < max64(in[0].ndim, in[i].ndim); d++)
            if (in[i].ndim != in[0].ndim || in[i].shape[d] != in[0].shape[d])
                REFUSE("optimizer: the parameter, its gradient and its slots differ in shape");
    for (int i = 0; i <= slots; i++) set_shape(&out[i], in[0].ndim, in[0].shape);
    return 0;
}

EXPORT int KERNEL(rule)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int adds = p[1] != 0, slots = p[0] == ADAM ? 2 : 1;
    const double a = number(p[2]), b = number(p[3]), epsilon = number(p[4]);
    const real *x = adds ? in[0].data : NULL, *g = in[adds].data, *first = in[adds + 1].data;
    const real *second = slots == 2 ? in[adds + 2].data : NULL;
    const real rate = *(const real *)in[adds + 1 + slots].data;
    const double t = (double)*(const real *)in[adds + 2 + slots].data;
    real *moved = out[0].data, *first_new = out[1].data;
    real *second_new = slots == 2 ? out[2].data : NULL;
    const real adam_rate = p[0] == ADAM ? rate / (real)correction(a, t) : 0;
    const real scale = p[0] == ADAM ? 1 / (real)correction(b, t) : 0;
    const int64_t size = count(&in[0]);
#pragma omp parallel for schedule(static) if (size > 20000)
    for (int64_t from = 0; from < size; from += BLOCK) {
        const int64_t n = min64(BLOCK, size - from);
        real step[BLOCK];
        if (p[0] == MOMENTUM)
            momentum(n, rate, a, g + from, first + from, first_new + from, step);
        else if (p[0] == RMSPROP)
            rmsprop(n, rate, a, epsilon, g + from, first + from, first_new + from, step);
        else
            adam(n, adam_rate, scale, a, b, epsilon, g + from, first + from, second + from,
                 first_new + from, second_new + from, step);
        if (!adds) {
            memcpy(moved + from, step, sizeof(real) * (size_t)n);
            continue;
        }
#pragma omp simd
        for (int64_t i = 0; i < n; i++) moved[from + i] = x[from + i] + step[i];
    }
    return 0;
}
