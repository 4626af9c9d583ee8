/* Long short-term memory over a whole sequence (Hochreiter & Schmidhuber 1997, with the forget
 * gate of Gers et al. 2000), without peepholes.  Gates stand in the order i, f, o, g:
 *
 *   i, f, o = sigmoid(.), g = tanh(.)  of  xp_t + h_{t-1} W_h
 *   c_t = f c_{t-1} + i g,  h_t = o tanh(c_t);   where mask_t is 0, c_t = c_{t-1}, h_t = h_{t-1}.
 *
 * The input's part xp = x W_x + b is one matrix product over all steps, made before.  Forward keeps
 * the activated gates; backward then needs no product of its own but those of the chain rule, and
 * the gradient of W_h is a single one over all steps after the loop.
 * Time is the first axis: a step is one contiguous block.
 */
#include "lstm.h"
#include "panels.h"

static int check(const tensor *in, int has_mask, char *error) {
    const tensor *xp = &in[0], *h0 = &in[1], *c0 = &in[2], *w = &in[3];
    if (xp->ndim != 3 || h0->ndim != 2 || c0->ndim != 2 || w->ndim != 2)
        REFUSE("lstm: needs xp (time, batch, 4 hidden), h0 and c0 (batch, hidden), W_h");
    const int64_t batch = xp->shape[1], hidden = h0->shape[1];
    if (xp->shape[2] != 4 * hidden || w->shape[0] != hidden || w->shape[1] != 4 * hidden)
        REFUSE("lstm: with %lld hidden units xp needs %lld columns, not %lld, and W_h %lld x %lld, "
               "not %lld x %lld", (long long)hidden, (long long)(4 * hidden),
               (long long)xp->shape[2], (long long)hidden, (long long)(4 * hidden),
               (long long)w->shape[0], (long long)w->shape[1]);
    if (h0->shape[0] != batch || c0->shape[0] != batch || c0->shape[1] != hidden)
        REFUSE("lstm: h0 and c0 must be (%lld, %lld)", (long long)batch, (long long)hidden);
    if (has_mask && (in[4].ndim != 2 || in[4].shape[0] != xp->shape[0] || in[4].shape[1] != batch))
        REFUSE("lstm: the mask must be (time, batch)");
    return 0;
}

/* lstm(xp (T, B, 4H), h0 (B, H), c0, W_h (H, 4H)[, mask (T, B)]; has_mask)
 *   -> h (T, B, H), c (T, B, H), activated gates (T, B, 4H) */
EXPORT int KERNEL(lstm_shape)(SHAPE_ARGUMENTS) {
    if (check(in, p[0] != 0, error)) return 1;
    const int64_t time = in[0].shape[0], batch = in[0].shape[1], hidden = in[1].shape[1];
    SET_SHAPE(&out[0], time, batch, hidden);
    SET_SHAPE(&out[1], time, batch, hidden);
    SET_SHAPE(&out[2], time, batch, 4 * hidden);
    return 0;
}

EXPORT int KERNEL(lstm)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t time = out[0].shape[0], batch = out[0].shape[1], hidden = out[0].shape[2];
    const int64_t step = batch * hidden;
    const real *xp = in[0].data, *mask = p[0] ? in[4].data : NULL;
    const real *h_before = in[1].data, *c_before = in[2].data;
    real *h = out[0].data, *c = out[1].data, *gates = out[2].data;
    factor w = prepare(&in[3], 0, time);
    for (int64_t t = 0; t < time; t++) {
        multiply(batch, h_before, &w, 0, gates);
#pragma omp parallel for schedule(static) if (step > SMALL)
        for (int64_t b = 0; b < batch; b++) {
            const int64_t row = b * hidden;
            if (mask && mask[t * batch + b] == 0)
                lstm_carry(hidden, h_before + row, c_before + row, gates + 4 * row, h + row,
                           c + row);
            else
                lstm_cell(hidden, xp + 4 * row, c_before + row, gates + 4 * row, h + row, c + row);
        }
        h_before = h, c_before = c;
        xp += 4 * step, gates += 4 * step, h += step, c += step;
    }
    release(&w);
    return 0;
}

/* lstm_gradient(W_h, h0, c0, h, c, gates[, mask][, gradient of h][, gradient of c];
 *               has_mask, has_gradient_h, has_gradient_c)
 *   -> gradients of xp (T, B, 4H), h0, c0 (B, H), W_h (H, 4H) */
EXPORT int KERNEL(lstm_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p), UNUSED(error);
    set_shape(&out[0], 3, in[5].shape);
    set_shape(&out[1], 2, in[1].shape);
    set_shape(&out[2], 2, in[1].shape);
    set_shape(&out[3], 2, in[0].shape);
    return 0;
}

EXPORT int KERNEL(lstm_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const int64_t time = in[3].shape[0], batch = in[3].shape[1], hidden = in[3].shape[2];
    const int64_t step = batch * hidden;
    const real *h0 = in[1].data, *c0 = in[2].data;
    const real *h = in[3].data, *c = in[4].data, *gates = in[5].data;
    const tensor *next = &in[6];
    const real *mask = p[0] ? (next++)->data : NULL;
    const real *g_h = p[1] ? (next++)->data : NULL, *g_c = p[2] ? (next++)->data : NULL;
    /* d_h and d_c: what step t + 1 hands back; after the loop the gradients of h0 and c0. */
    real *d_xp = out[0].data, *d_h = out[1].data, *d_c = out[2].data, *d_w = out[3].data;
    factor w = prepare(&in[0], 1, time);
    memset(d_h, 0, sizeof(real) * (size_t)step);
    memset(d_c, 0, sizeof(real) * (size_t)step);
    for (int64_t t = time - 1; t >= 0; t--) {
        const real *c_before = t ? c + (t - 1) * step : c0;
#pragma omp parallel for schedule(static) if (step > SMALL)
        for (int64_t b = 0; b < batch; b++) {
            const int64_t row = b * hidden, at = t * step + row;
            if (g_h) add(hidden, g_h + at, d_h + row);
            if (g_c) add(hidden, g_c + at, d_c + row);
            if (mask && mask[t * batch + b] == 0) {
                memset(d_xp + 4 * at, 0, sizeof(real) * (size_t)(4 * hidden));
                continue; /* the state was carried over, and so is its gradient */
            }
            lstm_cell_gradient(hidden, gates + 4 * at, c + at, c_before + row, d_h + row,
                               d_c + row, d_xp + 4 * at);
            memset(d_h + row, 0, sizeof(real) * (size_t)hidden);
        }
        multiply(batch, d_xp + 4 * t * step, &w, 1, d_h);
    }
    release(&w);
    recurrent_weight_gradient(time, batch, hidden, 4 * hidden, h0, h, d_xp, d_w);
    return 0;
}
