/* Vanilla recurrent network (Elman 1990) over a whole sequence:
 *
 *   h_t = tanh(xp_t + h_{t-1} W_h);   where mask_t is 0, h_t = h_{t-1}.
 *
 * The same plan as lstm.c: xp = x W_x + b is made before, the gradient of W_h after the loop.
 */
#include "lstm.h"
#include "panels.h"

/* rnn(xp (T, B, H), h0 (B, H), W_h (H, H)[, mask (T, B)]; has_mask) -> h (T, B, H) */
EXPORT int KERNEL(rnn_shape)(SHAPE_ARGUMENTS) {
    const tensor *xp = &in[0], *h0 = &in[1], *w = &in[2];
    if (xp->ndim != 3 || h0->ndim != 2 || w->ndim != 2)
        REFUSE("rnn: needs xp (time, batch, hidden), h0 (batch, hidden) and W_h (hidden, hidden)");
    const int64_t time = xp->shape[0], batch = xp->shape[1], hidden = xp->shape[2];
    if (h0->shape[0] != batch || h0->shape[1] != hidden)
        REFUSE("rnn: h0 must be (%lld, %lld)", (long long)batch, (long long)hidden);
    if (w->shape[0] != hidden || w->shape[1] != hidden)
        REFUSE("rnn: W_h must be (%lld, %lld)", (long long)hidden, (long long)hidden);
    if (p[0] && (in[3].ndim != 2 || in[3].shape[0] != time || in[3].shape[1] != batch))
        REFUSE("rnn: the mask must be (time, batch)");
    SET_SHAPE(&out[0], time, batch, hidden);
    return 0;
}

EXPORT int KERNEL(rnn)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t time = out[0].shape[0], batch = out[0].shape[1], hidden = out[0].shape[2];
    const int64_t step = batch * hidden;
    const real *xp = in[0].data, *h_before = in[1].data;
    const real *mask = p[0] ? in[3].data : NULL;
    real *h = out[0].data;
    factor w = prepare(&in[2], 0, time);
    for (int64_t t = 0; t < time; t++) {
        multiply(batch, h_before, &w, 0, h);
#pragma omp parallel for schedule(static) if (step > SMALL)
        for (int64_t b = 0; b < batch; b++) {
            const real *x = xp + b * hidden;
            real *y = h + b * hidden;
            if (mask && mask[t * batch + b] == 0) {
                memcpy(y, h_before + b * hidden, sizeof(real) * (size_t)hidden);
                continue;
            }
#pragma omp simd
            for (int64_t k = 0; k < hidden; k++) y[k] = vtanh(x[k] + y[k]);
        }
        h_before = h;
        xp += step, h += step;
    }
    release(&w);
    return 0;
}

/* rnn_gradient(W_h, h0, h, gradient of h[, mask]; has_mask)
 *   -> gradients of xp (T, B, H), h0 (B, H), W_h (H, H) */
EXPORT int KERNEL(rnn_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], 3, in[2].shape);
    set_shape(&out[1], 2, in[1].shape);
    set_shape(&out[2], 2, in[0].shape);
    return 0;
}

EXPORT int KERNEL(rnn_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t time = in[2].shape[0], batch = in[2].shape[1], hidden = in[2].shape[2];
    const int64_t step = batch * hidden;
    const real *h0 = in[1].data, *h = in[2].data, *g_h = in[3].data;
    const real *mask = p[0] ? in[4].data : NULL;
    real *d_xp = out[0].data, *d_h = out[1].data, *d_w = out[2].data;
    factor w = prepare(&in[0], 1, time);
    memset(d_h, 0, sizeof(real) * (size_t)step);
    for (int64_t t = time - 1; t >= 0; t--) {
#pragma omp parallel for schedule(static) if (step > SMALL)
        for (int64_t b = 0; b < batch; b++) {
            const int64_t row = b * hidden, at = t * step + row;
            const int carried = mask && mask[t * batch + b] == 0;
            for (int64_t k = 0; k < hidden; k++) {
                const real d = d_h[row + k] + g_h[at + k], y = h[at + k];
                d_xp[at + k] = carried ? 0 : d * (1 - y * y);
                d_h[row + k] = carried ? d : 0;
            }
        }
        multiply(batch, d_xp + t * step, &w, 1, d_h);
    }
    release(&w);
    recurrent_weight_gradient(time, batch, hidden, hidden, h0, h, d_xp, d_w);
    return 0;
}
