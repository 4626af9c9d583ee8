/* An LSTM that attends to a grid of annotations before every step (Xu et al., "Show, Attend and
 * Tell", ICML 2015), over a whole sequence.  For each step t and row b, with image n of the row:
 *
 *   q        = h_{t-1} W_q
 *   e_l      = sum_k v_k tanh(p_nlk + q_k)    score 0   (Bahdanau et al., 2015)
 *            = sum_k v_k max(p_nlk + q_k, 0)  score 1
 *            = sum_k p_nlk q_k / sqrt(A)      score 2
 *   alpha    = softmax(e)
 *   context  = sum_l alpha_l a_nl;  hard attention: a_nl of one cell l drawn with probability alpha
 *   beta     = sigmoid(h_{t-1} W_beta + b_beta),  z = beta context       (if there is a gate)
 *   h_t, c_t = LSTM step of  xp_t + h_{t-1} W_h + z W_z                  (lstm.h)
 *
 * p = a W_a + b_a, the projected annotations, and xp_t, the word's part of the gates, are products
 * over all steps, made outside.
 *
 * Backward recomputes no matrix product.  Inside the loop over time it makes only what the step
 * before needs; the large gradients, of the annotations and of their projection, are accumulated
 * after the loop, one image at a time over all steps, where tanh is computed again in registers
 * because that is cheaper than to store it: (time, batch, cells, A) numbers.
 *
 * Decoding may hand several rows (beams) to one image: row b looks at image b / (rows / images).
 */
#include "lstm.h"
#include "panels.h"

enum { TANH, RELU, DOT };
enum { CELLS = 8, CHANNELS = 256 }; /* of an image that a thread works on at a time */

/* What the parameters and inputs say; the same for forward and backward. */
typedef struct {
    int score, has_gate, has_mask, is_hard;
    int64_t time, batch, hidden, images, cells, channels, attention, gate;
} sizes;

static sizes read_sizes(const tensor *in, const int64_t *p) {
    sizes s = {.score = (int)p[0], .has_gate = p[1] != 0, .has_mask = p[2] != 0,
               .is_hard = p[3] != 0};
    s.time = in[0].shape[0], s.batch = in[0].shape[1];
    s.images = in[1].shape[0], s.cells = in[1].shape[1], s.channels = in[1].shape[2];
    s.attention = in[2].shape[2];
    s.hidden = in[3].shape[1];
    s.gate = s.has_gate ? in[9].shape[1] : 0;
    return s;
}

/* --- one row of attention ------------------------------------------------------------------- */

static real score_tanh(int64_t n, const real *restrict p, const real *restrict q,
                       const real *restrict v) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++) sum += v[k] * vtanh_unbounded(p[k] + q[k]);
    return sum;
}

static real score_relu(int64_t n, const real *restrict p, const real *restrict q,
                       const real *restrict v) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++) sum += v[k] * (p[k] + q[k] > 0 ? p[k] + q[k] : 0);
    return sum;
}

static real dot(int64_t n, const real *restrict x, const real *restrict y) {
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < n; k++) sum += x[k] * y[k];
    return sum;
}

/* y += w x */
static void add_scaled(int64_t n, real w, const real *restrict x, real *restrict y) {
#pragma omp simd
    for (int64_t k = 0; k < n; k++) y[k] += w * x[k];
}

static void softmax_in_place(int64_t n, real *x) {
    real largest = x[0], sum = 0;
    for (int64_t l = 1; l < n; l++) largest = x[l] > largest ? x[l] : largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t l = 0; l < n; l++) {
        x[l] = vexp(x[l] - largest);
        sum += x[l];
    }
    for (int64_t l = 0; l < n; l++) x[l] /= sum;
}

static real score(const sizes *s, const real *p, const real *q, const real *v) {
    const int64_t n = s->attention;
    return s->score == TANH   ? score_tanh(n, p, q, v)
           : s->score == RELU ? score_relu(n, p, q, v)
                              : dot(n, p, q) / (real)sqrt((double)n);
}

/* The first cell at which the summed probability passes u: a draw from alpha. */
static int64_t draw_cell(int64_t cells, const real *alpha, real u) {
    real sum = 0;
    for (int64_t l = 0; l < cells; l++) {
        sum += alpha[l];
        if (u < sum) return l;
    }
    return cells - 1;
}

/* --- forward -------------------------------------------------------------------------------- */

/* attention_lstm(xp (T, B, 4H), a (N, L, D), p (N, L, A), h0 (B, H), c0 (B, H), W_h (H, 4H),
 *                W_z (D, 4H), W_q (H, A), v (A)[, W_beta (H, G), b_beta (G)][, mask (T, B)]
 *                [, u (T, B), sampled (T, B)]; score, has_gate, has_mask, is_hard)
 *   -> h, c (T, B, H), alpha (T, B, L), z (T, B, D), beta (T, B, G), and for backward
 *      context (T, B, D), gates (T, B, 4H), q (T, B, A), weights (T, B, L): the weights of the
 *      cells in the context, which are alpha or, where `sampled` is not 0, one-hot. */
EXPORT int KERNEL(attention_lstm_shape)(SHAPE_ARGUMENTS) {
    static const int ndims[] = {3, 3, 3, 2, 2, 2, 2, 2, 1};
    for (int i = 0; i < 9; i++)
        if (in[i].ndim != ndims[i])
            REFUSE("attention_lstm: input %d must have %d dimensions, not %d", i, ndims[i],
                   (int)in[i].ndim);
    const sizes s = read_sizes(in, p);
    const int64_t wide = 4 * s.hidden;
    if (in[0].shape[2] != wide || in[5].shape[0] != s.hidden || in[5].shape[1] != wide)
        REFUSE("attention_lstm: xp and W_h must have 4 x %lld columns", (long long)s.hidden);
    if (in[6].shape[0] != s.channels || in[6].shape[1] != wide)
        REFUSE("attention_lstm: W_z must be (%lld, %lld)", (long long)s.channels, (long long)wide);
    if (in[2].shape[0] != s.images || in[2].shape[1] != s.cells)
        REFUSE("attention_lstm: the annotations and their projection differ in images or cells");
    if (in[7].shape[0] != s.hidden || in[7].shape[1] != s.attention ||
        in[8].shape[0] != s.attention)
        REFUSE("attention_lstm: W_q must be (%lld, %lld) and v (%lld)", (long long)s.hidden,
               (long long)s.attention, (long long)s.attention);
    if (s.images == 0 || s.batch % s.images || in[3].shape[0] != s.batch ||
        in[4].shape[0] != s.batch || in[4].shape[1] != s.hidden)
        REFUSE("attention_lstm: %lld rows of state for %lld images", (long long)s.batch,
               (long long)s.images);
    if (s.has_gate && (in[9].shape[0] != s.hidden || in[10].shape[0] != s.gate ||
                       (s.gate != 1 && s.gate != s.channels)))
        REFUSE("attention_lstm: the gate must be one number or one for each of %lld channels",
               (long long)s.channels);
    for (int i = 9 + 2 * s.has_gate; i < 9 + 2 * s.has_gate + s.has_mask + 2 * s.is_hard; i++)
        if (in[i].ndim != 2 || in[i].shape[0] != s.time || in[i].shape[1] != s.batch)
            REFUSE("attention_lstm: mask, u and sampled must be (time, batch)");
    SET_SHAPE(&out[0], s.time, s.batch, s.hidden);
    SET_SHAPE(&out[1], s.time, s.batch, s.hidden);
    SET_SHAPE(&out[2], s.time, s.batch, s.cells);
    SET_SHAPE(&out[3], s.time, s.batch, s.channels);
    SET_SHAPE(&out[4], s.time, s.batch, s.gate);
    SET_SHAPE(&out[5], s.time, s.batch, s.channels);
    SET_SHAPE(&out[6], s.time, s.batch, wide);
    SET_SHAPE(&out[7], s.time, s.batch, s.attention);
    SET_SHAPE(&out[8], s.time, s.batch, s.cells);
    return 0;
}

EXPORT int KERNEL(attention_lstm)(KERNEL_ARGUMENTS) {
    UNUSED(error);
    const sizes s = read_sizes(in, p);
    const int next = 9 + 2 * s.has_gate;
    const real *xp = in[0].data, *a = in[1].data, *projected = in[2].data;
    const real *v = in[8].data, *b_beta = s.has_gate ? in[10].data : NULL;
    const real *mask = s.has_mask ? in[next].data : NULL;
    const real *u = s.is_hard ? in[next + s.has_mask].data : NULL;
    const real *sampled = s.is_hard ? in[next + s.has_mask + 1].data : NULL;
    const int64_t beams = s.batch / s.images, wide = 4 * s.hidden;
    factor w_h = prepare(&in[5], 0, s.time);
    factor w_z = prepare(&in[6], 0, s.time);
    factor w_q = prepare(&in[7], 0, s.time);
    factor w_beta = prepare(s.has_gate ? &in[9] : NULL, 0, s.time);
    const real *h_before = in[3].data, *c_before = in[4].data;
    for (int64_t t = 0; t < s.time; t++) {
        real *h = (real *)out[0].data + t * s.batch * s.hidden;
        real *c = (real *)out[1].data + t * s.batch * s.hidden;
        real *z = (real *)out[3].data + t * s.batch * s.channels;
        real *beta = (real *)out[4].data + t * s.batch * s.gate;
        real *gates = (real *)out[6].data + t * s.batch * wide;
        real *q = (real *)out[7].data + t * s.batch * s.attention;
        multiply(s.batch, h_before, &w_h, 0, gates);
        multiply(s.batch, h_before, &w_q, 0, q);
        multiply(s.batch, h_before, &w_beta, 0, beta);
        real *alpha = (real *)out[2].data + t * s.batch * s.cells;
        real *weights = (real *)out[8].data + t * s.batch * s.cells;
        real *context = (real *)out[5].data + t * s.batch * s.channels;
#pragma omp parallel
        {
            /* A cell meets all rows of its image while it lies in the cache. */
#pragma omp for collapse(2) schedule(static)
            for (int64_t n = 0; n < s.images; n++)
                for (int64_t from = 0; from < s.cells; from += CELLS)
                    for (int64_t l = from; l < min64(from + CELLS, s.cells); l++)
                        for (int64_t b = n * beams; b < (n + 1) * beams; b++)
                            alpha[b * s.cells + l] =
                                score(&s, projected + (n * s.cells + l) * s.attention,
                                      q + b * s.attention, v);
#pragma omp for schedule(static)
            for (int64_t b = 0; b < s.batch; b++) {
                real *row = weights + b * s.cells, *open = beta + b * s.gate;
                softmax_in_place(s.cells, alpha + b * s.cells);
                memcpy(row, alpha + b * s.cells, sizeof(real) * (size_t)s.cells);
                if (s.is_hard && sampled[t * s.batch + b] != 0) {
                    const int64_t cell = draw_cell(s.cells, row, u[t * s.batch + b]);
                    memset(row, 0, sizeof(real) * (size_t)s.cells);
                    row[cell] = 1;
                }
                for (int64_t k = 0; k < s.gate; k++) open[k] = vsigmoid(open[k] + b_beta[k]);
            }
#pragma omp for collapse(2) schedule(static)
            for (int64_t n = 0; n < s.images; n++)
                for (int64_t from = 0; from < s.channels; from += CHANNELS) {
                    const int64_t size = min64(CHANNELS, s.channels - from);
                    KERNEL(gemm_few_rows_serial)
                    (beams, size, s.cells, weights + n * beams * s.cells, s.cells,
                     a + n * s.cells * s.channels + from, s.channels, 0, 0,
                     context + n * beams * s.channels + from, s.channels);
                    for (int64_t b = n * beams; b < (n + 1) * beams; b++)
                        for (int64_t k = from; k < from + size; k++)
                            z[b * s.channels + k] =
                                context[b * s.channels + k] *
                                (s.gate == 0 ? 1 : beta[b * s.gate + (s.gate == 1 ? 0 : k)]);
                }
        }
        multiply(s.batch, z, &w_z, 1, gates);
#pragma omp parallel for schedule(static) if (s.batch * s.hidden > SMALL)
        for (int64_t b = 0; b < s.batch; b++) {
            const int64_t at = b * s.hidden;
            if (mask && mask[t * s.batch + b] == 0)
                lstm_carry(s.hidden, h_before + at, c_before + at, gates + 4 * at, h + at, c + at);
            else
                lstm_cell(s.hidden, xp + t * s.batch * wide + 4 * at, c_before + at,
                          gates + 4 * at, h + at, c + at);
        }
        h_before = h, c_before = c;
    }
    release(&w_h), release(&w_z), release(&w_q), release(&w_beta);
    return 0;
}

/* --- backward ------------------------------------------------------------------------------- */

/* Gradient of the scores of one row: d_alpha -> d_score in place, d_q. */
static void attend_gradient(const sizes *s, const real *p, const real *q, const real *v,
                            const real *alpha, real *d_score, real *d_q) {
    const int64_t n = s->attention;
    const real mean = dot(s->cells, d_score, alpha);
    for (int64_t l = 0; l < s->cells; l++) d_score[l] = alpha[l] * (d_score[l] - mean);
    memset(d_q, 0, sizeof(real) * (size_t)n);
    if (s->score == DOT) {
        const real scale = 1 / (real)sqrt((double)n);
        for (int64_t l = 0; l < s->cells; l++) add_scaled(n, d_score[l] * scale, p + l * n, d_q);
        return;
    }
    for (int64_t l = 0; l < s->cells; l++) {
        const real *restrict row = p + l * n;
        const real d = d_score[l];
        if (s->score == TANH) {
#pragma omp simd
            for (int64_t k = 0; k < n; k++) {
                const real y = vtanh_unbounded(row[k] + q[k]);
                d_q[k] += d * (1 - y * y);
            }
        } else {
#pragma omp simd
            for (int64_t k = 0; k < n; k++) d_q[k] += row[k] + q[k] > 0 ? d : 0;
        }
    }
    for (int64_t k = 0; k < n; k++) d_q[k] *= v[k];
}

/* After the loop, one image: d_p (L, A) and this image's share of d_v (A), over all steps. */
static void projection_gradient(const sizes *s, int64_t n, const real *p, const real *q,
                                const real *v, const real *d_score, real *d_p, real *d_v) {
    const int64_t size = s->attention;
    const real scale = 1 / (real)sqrt((double)size);
    memset(d_v, 0, sizeof(real) * (size_t)size);
    for (int64_t l = 0; l < s->cells; l++) {
        const real *restrict row = p + l * size;
        real *restrict d_row = d_p + l * size;
        memset(d_row, 0, sizeof(real) * (size_t)size);
        for (int64_t t = 0; t < s->time; t++) {
            const int64_t at = t * s->batch + n;
            const real *restrict query = q + at * size;
            const real d = d_score[at * s->cells + l];
            if (s->score == TANH) {
#pragma omp simd
                for (int64_t k = 0; k < size; k++) {
                    const real y = vtanh_unbounded(row[k] + query[k]);
                    d_row[k] += d * (1 - y * y);
                    d_v[k] += d * y;
                }
            } else if (s->score == RELU) {
#pragma omp simd
                for (int64_t k = 0; k < size; k++) {
                    const real y = row[k] + query[k];
                    d_row[k] += y > 0 ? d : 0;
                    d_v[k] += y > 0 ? d * y : 0;
                }
            } else {
                add_scaled(size, d * scale, query, d_row);
            }
        }
        if (s->score != DOT)
            for (int64_t k = 0; k < size; k++) d_row[k] *= v[k];
    }
}

/* attention_lstm_backward(<the inputs of attention_lstm>, h, c, alpha, z, beta, context, gates, q,
 *                         weights, dh (T, B, H), dc (T, B, H), dalpha (T, B, L), dz (T, B, D),
 *                         dbeta (T, B, G))
 *   -> dxp, da, dp, dh0, dc0, dW_h, dW_z, dW_q, dv[, dW_beta, db_beta] */
EXPORT int KERNEL(attention_lstm_backward_shape)(SHAPE_ARGUMENTS) {
    const sizes s = read_sizes(in, p);
    if (s.batch != s.images)
        REFUSE("attention_lstm: the gradient needs one row per image, not %lld rows for %lld",
               (long long)s.batch, (long long)s.images);
    for (int i = 0; i < 9 + 2 * s.has_gate; i++) set_shape(&out[i], in[i].ndim, in[i].shape);
    return 0;
}

EXPORT int KERNEL(attention_lstm_backward)(KERNEL_ARGUMENTS) {
    const sizes s = read_sizes(in, p);
    const int next = 9 + 2 * s.has_gate, saved = next + s.has_mask + 2 * s.is_hard;
    const real *a = in[1].data, *projected = in[2].data, *h0 = in[3].data, *c0 = in[4].data;
    const real *v = in[8].data;
    const real *mask = s.has_mask ? in[next].data : NULL;
    const real *sampled = s.is_hard ? in[next + s.has_mask + 1].data : NULL;
    const real *h = in[saved].data, *c = in[saved + 1].data, *alpha = in[saved + 2].data;
    const real *z = in[saved + 3].data, *beta = in[saved + 4].data;
    const real *context = in[saved + 5].data, *gates = in[saved + 6].data;
    const real *q = in[saved + 7].data, *weights = in[saved + 8].data;
    const real *dh_out = in[saved + 9].data, *dc_out = in[saved + 10].data;
    const real *dalpha_out = in[saved + 11].data, *dz_out = in[saved + 12].data;
    const real *dbeta_out = in[saved + 13].data;
    real *dxp = out[0].data, *da = out[1].data, *dp = out[2].data;
    real *dh = out[3].data, *dc = out[4].data; /* running; they end as dh0 and dc0 */
    const int64_t wide = 4 * s.hidden, step = s.batch * s.hidden, rows = s.time * s.batch;

    real *d_q = malloc(sizeof(real) * (size_t)(rows * s.attention));
    real *d_beta = malloc(sizeof(real) * (size_t)max64(rows * s.gate, 1));
    real *d_context = malloc(sizeof(real) * (size_t)(rows * s.channels));
    real *d_score = malloc(sizeof(real) * (size_t)(rows * s.cells));
    real *d_v = malloc(sizeof(real) * (size_t)(s.images * s.attention));
    if (!d_q || !d_beta || !d_context || !d_score || !d_v) {
        free(d_q), free(d_beta), free(d_context), free(d_score), free(d_v);
        REFUSE("attention_lstm: out of memory");
    }

    factor w_h = prepare(&in[5], 1, s.time);
    factor w_z = prepare(&in[6], 1, s.time);
    factor w_q = prepare(&in[7], 1, s.time);
    factor w_beta = prepare(s.has_gate ? &in[9] : NULL, 1, s.time);
    memset(dh, 0, sizeof(real) * (size_t)step);
    memset(dc, 0, sizeof(real) * (size_t)step);
    for (int64_t t = s.time - 1; t >= 0; t--) {
        const real *c_before = t ? c + (t - 1) * step : c0;
        real *d_gates = dxp + t * s.batch * wide;
        real *d_z = d_context + t * s.batch * s.channels;
        memcpy(d_z, dz_out + t * s.batch * s.channels,
               sizeof(real) * (size_t)(s.batch * s.channels));
#pragma omp parallel for schedule(static) if (step > SMALL)
        for (int64_t b = 0; b < s.batch; b++) {
            const int64_t at = b * s.hidden, row = t * s.batch + b;
            add(s.hidden, dh_out + t * step + at, dh + at);
            add(s.hidden, dc_out + t * step + at, dc + at);
            if (mask && mask[row] == 0) { /* dh and dc pass on as they are */
                memset(d_gates + 4 * at, 0, sizeof(real) * (size_t)wide);
                continue;
            }
            lstm_cell_gradient(s.hidden, gates + row * wide, c + t * step + at, c_before + at,
                               dh + at, dc + at, d_gates + 4 * at);
            memset(dh + at, 0, sizeof(real) * (size_t)s.hidden);
        }
        multiply(s.batch, d_gates, &w_z, 1, d_z);
#pragma omp parallel for schedule(static)
        for (int64_t b = 0; b < s.batch; b++) {
            const int64_t row = t * s.batch + b;
            real *d_row = d_z + b * s.channels, *d_gate = d_beta + row * s.gate;
            real *d_cells = d_score + row * s.cells;
            const real *seen = context + row * s.channels, *open = beta + row * s.gate;
            /* d_z -> d_beta and, in place, d_context */
            if (s.gate == 1) d_gate[0] = dot(s.channels, d_row, seen);
            for (int64_t k = 0; k < s.channels; k++) {
                if (s.gate > 1) d_gate[k] = d_row[k] * seen[k];
                if (s.gate) d_row[k] *= open[s.gate > 1 ? k : 0];
            }
            for (int64_t k = 0; k < s.gate; k++)
                d_gate[k] = (d_gate[k] + dbeta_out[row * s.gate + k]) * open[k] * (1 - open[k]);
            const real *cells = a + b * s.cells * s.channels;
            const int expected = !(s.is_hard && sampled[row] != 0);
            for (int64_t l = 0; l < s.cells; l++)
                d_cells[l] = dalpha_out[row * s.cells + l] +
                             (expected ? dot(s.channels, d_row, cells + l * s.channels) : 0);
            attend_gradient(&s, projected + b * s.cells * s.attention, q + row * s.attention, v,
                            alpha + row * s.cells, d_cells, d_q + row * s.attention);
        }
        const int64_t first = t * s.batch;
        multiply(s.batch, d_gates, &w_h, 1, dh);
        multiply(s.batch, d_q + first * s.attention, &w_q, 1, dh);
        if (s.has_gate) multiply(s.batch, d_beta + first * s.gate, &w_beta, 1, dh);
    }
    release(&w_h), release(&w_z), release(&w_q), release(&w_beta);

    recurrent_weight_gradient(s.time, s.batch, s.hidden, wide, h0, h, dxp, out[5].data);
    recurrent_weight_gradient(s.time, s.batch, s.hidden, s.attention, h0, h, d_q, out[7].data);
    KERNEL(gemm)(1, 0, s.channels, wide, rows, 1, z, s.channels, dxp, wide, 0, out[6].data, wide);
    if (s.has_gate) {
        recurrent_weight_gradient(s.time, s.batch, s.hidden, s.gate, h0, h, d_beta, out[9].data);
        real *d_bias = out[10].data;
        memset(d_bias, 0, sizeof(real) * (size_t)s.gate);
        for (int64_t row = 0; row < rows; row++) add(s.gate, d_beta + row * s.gate, d_bias);
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < s.images; n++) {
        /* d_a (L x D) = sum over steps of weights_t' d_context_t */
        KERNEL(gemm_serial)(1, 0, s.cells, s.channels, s.time, 1, weights + n * s.cells,
                            s.batch * s.cells, d_context + n * s.channels, s.batch * s.channels,
                            0, da + n * s.cells * s.channels, s.channels);
        projection_gradient(&s, n, projected + n * s.cells * s.attention, q, v, d_score,
                            dp + n * s.cells * s.attention, d_v + n * s.attention);
    }
    real *dv = out[8].data;
    memset(dv, 0, sizeof(real) * (size_t)s.attention);
    for (int64_t n = 0; n < s.images; n++) add(s.attention, d_v + n * s.attention, dv);

    free(d_q), free(d_beta), free(d_context), free(d_score), free(d_v);
    return 0;
}
