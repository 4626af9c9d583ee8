/* What the convolution kernels share: the geometry of one layer and the list of algorithms.
 *
 *   y[n, f, oy, ox] = b[f] + sum over c, i, j of
 *       w[f, c, i, j] * x[n, c, oy * stride_h - pad_top + i * dilation_h,
 *                               ox * stride_w - pad_left + j * dilation_w]
 *
 * x is (batch, channels, height, width), w (filters, channels / groups, kernel_h, kernel_w) and
 * y (batch, filters, out_h, out_w); reads outside x are zero.  Each algorithm computes the forward
 * pass, the gradient with respect to x, and the gradient with respect to w; conv.c chooses.
 */
#ifndef DLMIE_CONV_H
#define DLMIE_CONV_H

#include "kernels.h"

typedef struct {
    int64_t batch, channels, height, width;
    int64_t filters, groups, kernel_h, kernel_w;
    int64_t out_h, out_w;
    int64_t stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
} conv_geometry;

/* The integer parameters of an operation, in their order; conv.c says what they mean. */
enum { P_STRIDE, P_SAME = 2, P_PAD, P_DILATION = 7, P_GROUPS = 9, P_ACTIVATION, P_EXACT, P_BIAS,
       P_COUNT };

enum { NO_ACTIVATION = 0, RELU = 1, RELU6 = 2 };

/* NaN passes through, as it does through NumPy's maximum. */
static inline real activate(real v, int activation) {
    if (activation == NO_ACTIVATION) return v;
    v = v < 0 ? 0 : v;
    return activation == RELU6 && v > 6 ? 6 : v;
}

/* The outputs o in [*first, *last) whose input o * stride + offset lies in [0, size). */
static inline void valid_range(int64_t outputs, int64_t stride, int64_t offset, int64_t size,
                               int64_t *first, int64_t *last) {
    const int64_t below = -offset, left = size - offset; /* need below <= o * stride < left */
    *first = below <= 0 ? 0 : min64((below + stride - 1) / stride, outputs);
    *last = left <= 0 ? 0 : min64((left + stride - 1) / stride, outputs);
    if (*last < *first) *last = *first;
}

/* Working memory from memory.c's kept blocks: no page faults at every call. */
typedef struct {
    real *data; /* NULL when there is none */
    size_t size;
} scratch;

static inline scratch take_scratch(int64_t n) {
    scratch s;
    s.data = dlmie_take((size_t)n * sizeof(real), &s.size);
    return s;
}

static inline void give_scratch(scratch s) { dlmie_give(s.data, s.size); }

static inline int thread_number(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

/* conv.c: the sizes of a convolution of x by w; refuses what does not fit together. */
int KERNEL(conv_geometry_of)(const tensor *x, const tensor *w, const int64_t *p, conv_geometry *s,
                             char *error);

/* conv_gemm.c: any convolution. `bias` may be NULL. */
int KERNEL(conv_gemm_forward)(const conv_geometry *s, const real *x, const real *w,
                              const real *bias, int activation, real *y);
int KERNEL(conv_gemm_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                     real *dx);
int KERNEL(conv_gemm_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                      real *dw);

/* conv_direct.c: not dilated horizontally; small images. */
int KERNEL(conv_direct_forward)(const conv_geometry *s, const real *x, const real *w,
                                const real *bias, int activation, real *y);
int KERNEL(conv_direct_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                       real *dx);
int KERNEL(conv_direct_transposed)(const conv_geometry *s, const real *w, const real *g,
                                   const real *bias, int activation, real *dx);
int KERNEL(conv_direct_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                        real *dw);

/* conv_depthwise.c: groups == channels. */
int KERNEL(conv_depthwise_forward)(const conv_geometry *s, const real *x, const real *w,
                                   const real *bias, int activation, real *y);
int KERNEL(conv_depthwise_input_gradient)(const conv_geometry *s, const real *w, const real *g,
                                          real *dx);
int KERNEL(conv_depthwise_weight_gradient)(const conv_geometry *s, const real *x, const real *g,
                                           real *dw);

/* pool.c */
EXPORT int KERNEL(max_pool)(KERNEL_ARGUMENTS);

/* conv_winograd.c: float32, 3x3, stride 1, not dilated. `pooled` keeps the largest of each 2x2. */
#ifndef DLMIE_DOUBLE
int conv_winograd_forward(const conv_geometry *s, const real *x, const real *w, const real *bias,
                          int activation, real *y);
int conv_winograd_pooled(const conv_geometry *s, const real *x, const real *w, const real *bias,
                         int activation, real *y);
int conv_winograd_input_gradient(const conv_geometry *s, const real *w, const real *g, real *dx);
int conv_winograd_weight_gradient(const conv_geometry *s, const real *x, const real *g, real *dw);
/* Whether there are so few channels, and so many tiles, that threads compute it in their own caches. */
int conv_winograd_own_gradient(const conv_geometry *s);
#endif

#endif
