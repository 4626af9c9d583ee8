/* One step of long short-term memory for one row of a batch; see lstm.c for the equations. */
#ifndef DLMIE_LSTM_H
#define DLMIE_LSTM_H

#include "vmath.h"

/* Rows x units below which a loop is not worth waking threads for. */
#define SMALL 4096

/* gates: h_{t-1} W_h in, activated i, f, o, g out. */
static inline void lstm_cell(int64_t hidden, const real *restrict xp,
                             const real *restrict c_before, real *restrict gates, real *restrict h,
                             real *restrict c) {
#pragma omp simd
    for (int64_t k = 0; k < hidden; k++) {
        const real i = vsigmoid(gates[k] + xp[k]);
        const real f = vsigmoid(gates[hidden + k] + xp[hidden + k]);
        const real o = vsigmoid(gates[2 * hidden + k] + xp[2 * hidden + k]);
        const real g = vtanh(gates[3 * hidden + k] + xp[3 * hidden + k]);
        gates[k] = i, gates[hidden + k] = f, gates[2 * hidden + k] = o, gates[3 * hidden + k] = g;
        c[k] = f * c_before[k] + i * g;
        h[k] = o * vtanh(c[k]);
    }
}

/* A masked step: the state stays; its gates are never looked at. */
static inline void lstm_carry(int64_t hidden, const real *h_before, const real *c_before,
                              real *gates, real *h, real *c) {
    memset(gates, 0, sizeof(real) * (size_t)(4 * hidden));
    memcpy(h, h_before, sizeof(real) * (size_t)hidden);
    memcpy(c, c_before, sizeof(real) * (size_t)hidden);
}

/* d_h, d_c: gradients of this step's h and c; d_c becomes that of the previous c, and d_gates the
 * gradient before the activations. */
static inline void lstm_cell_gradient(int64_t hidden, const real *restrict gates,
                                      const real *restrict c, const real *restrict c_before,
                                      const real *restrict d_h, real *restrict d_c,
                                      real *restrict d_gates) {
#pragma omp simd
    for (int64_t k = 0; k < hidden; k++) {
        const real i = gates[k], f = gates[hidden + k];
        const real o = gates[2 * hidden + k], g = gates[3 * hidden + k];
        const real squashed = vtanh(c[k]);
        const real d = d_c[k] + d_h[k] * o * (1 - squashed * squashed);
        d_gates[k] = d * g * i * (1 - i);
        d_gates[hidden + k] = d * c_before[k] * f * (1 - f);
        d_gates[2 * hidden + k] = d_h[k] * squashed * o * (1 - o);
        d_gates[3 * hidden + k] = d * i * (1 - g * g);
        d_c[k] = d * f;
    }
}

/* y += x */
static inline void add(int64_t n, const real *restrict x, real *restrict y) {
    for (int64_t k = 0; k < n; k++) y[k] += x[k];
}

/* d_w (hidden x width) = sum over steps of h_{t-1}' d_t, where h_{-1} = h0 and d is
 * (time, batch, width): one product over all steps but the first. */
static inline void recurrent_weight_gradient(int64_t time, int64_t batch, int64_t hidden,
                                             int64_t width, const real *h0, const real *h,
                                             const real *d, real *d_w) {
    if (time == 0) {
        memset(d_w, 0, sizeof(real) * (size_t)(hidden * width));
        return;
    }
    KERNEL(gemm)(1, 0, hidden, width, batch, 1, h0, hidden, d, width, 0, d_w, width);
    KERNEL(gemm)(1, 0, hidden, width, (time - 1) * batch, 1, h, hidden, d + batch * width, width,
                 1, d_w, width);
}

#endif
