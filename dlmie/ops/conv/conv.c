/* Two-dimensional cross-correlation: geometry, choice of algorithm, activation gradient.
 *
 * Every operation takes the same parameters
 *   p = {stride_h, stride_w, same, top, bottom, left, right, dilation_h, dilation_w, groups,
 *        activation, exact, has_bias}
 * where `same` computes the padding from the input (TensorFlow's rule: out = ceil(in / stride),
 * an odd row or column of padding goes to the bottom or right).
 */
#include "conv.h"

/* Measured limits between the algorithms. */
enum { LANES_WORTH_FILLING = 16, FEW_CHANNELS = 4, FEW_PIXELS = 256, SMALL_IMAGE = 48 * 48 };

/* Size of the output along one axis and the padding before it; negative when nothing fits. */
static int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t dilation,
                           int same, int64_t before, int64_t after, int64_t *pad) {
    const int64_t reach = (kernel - 1) * dilation + 1;
    if (same) {
        const int64_t out = (size + stride - 1) / stride;
        *pad = max64((out - 1) * stride + reach - size, 0) / 2;
        return out;
    }
    *pad = before;
    const int64_t room = size + before + after - reach;
    return room < 0 ? -1 : room / stride + 1;
}

int KERNEL(conv_geometry_of)(const tensor *x, const tensor *w, const int64_t *p, conv_geometry *s,
                             char *error) {
    if (x->ndim != 4 || w->ndim != 4)
        REFUSE("conv2d: input and filters must have 4 dimensions, not %d and %d", (int)x->ndim,
               (int)w->ndim);
    *s = (conv_geometry){
        .batch = x->shape[0], .channels = x->shape[1], .height = x->shape[2],
        .width = x->shape[3], .filters = w->shape[0], .groups = p[P_GROUPS],
        .kernel_h = w->shape[2], .kernel_w = w->shape[3], .stride_h = p[P_STRIDE],
        .stride_w = p[P_STRIDE + 1], .dilation_h = p[P_DILATION], .dilation_w = p[P_DILATION + 1]};
    if (s->channels != w->shape[1] * s->groups)
        REFUSE("conv2d: the input has %lld channels, the filters expect %lld (%lld groups)",
               (long long)s->channels, (long long)(w->shape[1] * s->groups),
               (long long)s->groups);
    if (s->filters % s->groups)
        REFUSE("conv2d: %lld filters do not divide into %lld groups", (long long)s->filters,
               (long long)s->groups);
    if (s->kernel_h < 1 || s->kernel_w < 1) REFUSE("conv2d: empty filters");
    const int same = p[P_SAME] != 0;
    const int64_t *pad = p + P_PAD;
    s->out_h = output_size(s->height, s->kernel_h, s->stride_h, s->dilation_h, same, pad[0],
                           pad[1], &s->pad_top);
    s->out_w = output_size(s->width, s->kernel_w, s->stride_w, s->dilation_w, same, pad[2],
                           pad[3], &s->pad_left);
    if (s->out_h < 0 || s->out_w < 0)
        REFUSE("conv2d: a %lldx%lld filter does not fit an input of %lldx%lld with its padding",
               (long long)s->kernel_h, (long long)s->kernel_w, (long long)s->height,
               (long long)s->width);
    return 0;
}

static int check_gradient(const conv_geometry *s, const tensor *g, char *error) {
    const int64_t expected[4] = {s->batch, s->filters, s->out_h, s->out_w};
    for (int i = 0; i < 4; i++)
        if (g->ndim != 4 || g->shape[i] != expected[i])
            REFUSE("conv2d: the gradient of the output must be %lldx%lldx%lldx%lld",
                   (long long)expected[0], (long long)expected[1], (long long)expected[2],
                   (long long)expected[3]);
    return 0;
}

/* One algorithm: how it computes each operation; all return 1 when memory runs out. */
typedef int forward_pass(const conv_geometry *s, const real *x, const real *w, const real *bias,
                         int activation, real *y);
typedef struct {
    forward_pass *forward, *pooled; /* pooled: NULL if it cannot */
    int (*input_gradient)(const conv_geometry *s, const real *w, const real *g, real *dx);
    int (*weight_gradient)(const conv_geometry *s, const real *x, const real *g, real *dw);
    /* The gradient of the input with a bias and an activation; NULL if it cannot. */
    int (*transposed)(const conv_geometry *s, const real *w, const real *g, const real *bias,
                      int activation, real *dx);
} algorithm;

static const algorithm gemm = {KERNEL(conv_gemm_forward), NULL, KERNEL(conv_gemm_input_gradient),
                               KERNEL(conv_gemm_weight_gradient), NULL};
static const algorithm direct = {KERNEL(conv_direct_forward), NULL,
                                 KERNEL(conv_direct_input_gradient),
                                 KERNEL(conv_direct_weight_gradient),
                                 KERNEL(conv_direct_transposed)};
static const algorithm depthwise = {KERNEL(conv_depthwise_forward), NULL,
                                    KERNEL(conv_depthwise_input_gradient),
                                    KERNEL(conv_depthwise_weight_gradient), NULL};
#ifndef DLMIE_DOUBLE
static const algorithm winograd = {conv_winograd_forward, conv_winograd_pooled,
                                   conv_winograd_input_gradient, conv_winograd_weight_gradient,
                                   NULL};

/* Winograd's tiles pay when the channels fill vectors and the tiles are not mostly beyond the edge:
 * a tile costs 36 products and its transforms, an output 9. */
static int suits_winograd(const conv_geometry *s) {
    const int64_t tiles = ((s->out_h + 3) / 4) * ((s->out_w + 3) / 4);
    const int64_t narrower = min64(s->channels, s->filters) / s->groups;
    return s->kernel_h == 3 && s->kernel_w == 3 && s->stride_h == 1 && s->stride_w == 1 &&
           s->dilation_h == 1 && s->dilation_w == 1 && narrower >= LANES_WORTH_FILLING &&
           2 * 36 * tiles <= 9 * s->out_h * s->out_w;
}
#endif

/* Direct convolution pays where a filter sees several pixels of a small image, whose rows are too
 * short to unroll well, or enough channels; and where its other order of the filters is used for
 * more than a few pixels. Every thread takes whole images. */
static int suits_direct(const conv_geometry *s) {
    const int64_t pixels = s->out_h * s->out_w, channels = s->channels / s->groups;
    return s->kernel_h * s->kernel_w > 1 && s->dilation_w == 1 && s->batch >= thread_count() &&
           s->batch * pixels >= FEW_PIXELS &&
           (channels >= LANES_WORTH_FILLING || (s->groups == 1 && pixels <= SMALL_IMAGE));
}

typedef enum { FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT } operation;

static const algorithm *algorithm_for(const conv_geometry *s, int exact, operation wanted) {
    if (s->groups > 1 && s->groups == s->channels) return &depthwise;
#ifndef DLMIE_DOUBLE
    /* Winograd's transforms of a gradient cost most: they need more channels to pay, or a cache. */
    const int small = min64(s->channels, s->filters) / s->groups <= 2 * LANES_WORTH_FILLING &&
                      s->out_h * s->out_w <= SMALL_IMAGE && !conv_winograd_own_gradient(s);
    if (wanted == WEIGHT_GRADIENT && small && suits_direct(s)) return &direct;
    if (!exact && suits_winograd(s)) return &winograd;
#else
    UNUSED(exact);
#endif
    /* With few channels, what neighbors add to the gradient of an image overlaps within vectors. */
    if (wanted == INPUT_GRADIENT && s->channels < FEW_CHANNELS) return &gemm;
    return suits_direct(s) ? &direct : &gemm;
}

/* conv2d(x, w, b if has_bias) -> activation(x * w + b) */
EXPORT int KERNEL(conv2d_shape)(SHAPE_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error)) return 1;
    if (p[P_BIAS] && (in[2].ndim != 1 || in[2].shape[0] != s.filters))
        REFUSE("conv2d: the bias must have %lld elements, one a filter", (long long)s.filters);
    SET_SHAPE(&out[0], s.batch, s.filters, s.out_h, s.out_w);
    return 0;
}

EXPORT int KERNEL(conv2d)(KERNEL_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error)) return 1;
    const real *x = in[0].data, *w = in[1].data, *bias = p[P_BIAS] ? in[2].data : NULL;
    if (algorithm_for(&s, p[P_EXACT] != 0, FORWARD)
            ->forward(&s, x, w, bias, (int)p[P_ACTIVATION], out[0].data))
        REFUSE("conv2d: out of memory");
    return 0;
}

/* conv2d_pooled(x, w, b if has_bias) -> the largest of each 2x2 of activation(x * w + b) */
EXPORT int KERNEL(conv2d_pooled_shape)(SHAPE_ARGUMENTS) {
    if (KERNEL(conv2d_shape)(in, out, p, error)) return 1;
    int64_t *size = out[0].shape + 2;
    if (size[0] < 2 || size[1] < 2)
        REFUSE("pooling: a 2x2 window does not fit an input of %lldx%lld", (long long)size[0],
               (long long)size[1]);
    size[0] /= 2, size[1] /= 2;
    return 0;
}

/* Without an algorithm that pools as it goes: all outputs first. */
static int convolve_then_pool(const conv_geometry *s, const algorithm *a, const tensor *in,
                              const int64_t *p, tensor *out, char *error) {
    static const int64_t windows[] = {2, 2, 2, 2, 0, 0, 0, 0}; /* as pool.c reads them */
    tensor all = {.ndim = 4, .shape = {s->batch, s->filters, s->out_h, s->out_w}};
    const scratch memory = take_scratch(count(&all));
    all.data = memory.data;
    int failed = !memory.data || a->forward(s, in[0].data, in[1].data, p[P_BIAS] ? in[2].data : NULL,
                                            (int)p[P_ACTIVATION], memory.data);
    if (failed) snprintf(error, ERROR_SIZE, "conv2d: out of memory");
    else failed = KERNEL(max_pool)(&all, out, windows, error);
    if (memory.data) give_scratch(memory);
    return failed;
}

EXPORT int KERNEL(conv2d_pooled)(KERNEL_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error)) return 1;
    const algorithm *a = algorithm_for(&s, p[P_EXACT] != 0, FORWARD);
    if (!a->pooled) return convolve_then_pool(&s, a, in, p, out, error);
    const real *x = in[0].data, *w = in[1].data, *bias = p[P_BIAS] ? in[2].data : NULL;
    if (a->pooled(&s, x, w, bias, (int)p[P_ACTIVATION], out[0].data))
        REFUSE("conv2d: out of memory");
    return 0;
}

/* conv2d_input_gradient(x for its shape, w, g) -> gradient with respect to x */
EXPORT int KERNEL(conv2d_input_gradient_shape)(SHAPE_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error) ||
        check_gradient(&s, &in[2], error))
        return 1;
    set_shape(&out[0], 4, in[0].shape);
    return 0;
}

EXPORT int KERNEL(conv2d_input_gradient)(KERNEL_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error)) return 1;
    const real *w = in[1].data, *g = in[2].data;
    if (algorithm_for(&s, p[P_EXACT] != 0, INPUT_GRADIENT)->input_gradient(&s, w, g, out[0].data))
        REFUSE("conv2d: out of memory");
    return 0;
}

/* The convolution of y by w whose map is transposed to get y from x; refuses what does not fit. */
static int transposed_geometry(const tensor *x, const tensor *w, const int64_t *p,
                               conv_geometry *s, char *error) {
    if (x->ndim != 4 || w->ndim != 4)
        REFUSE("conv2d: input and filters must have 4 dimensions, not %d and %d", (int)x->ndim,
               (int)w->ndim);
    if (x->shape[1] != w->shape[0])
        REFUSE("conv2d: the input has %lld channels, the filters expect %lld",
               (long long)x->shape[1], (long long)w->shape[0]);
    tensor y = {.ndim = 4, .shape = {x->shape[0], w->shape[1] * p[P_GROUPS]}};
    for (int axis = 0; axis < 2; axis++) {
        const int64_t reach = (w->shape[2 + axis] - 1) * p[P_DILATION + axis] + 1;
        const int64_t cut = p[P_PAD + 2 * axis] + p[P_PAD + 2 * axis + 1];
        const int64_t size = (x->shape[2 + axis] - 1) * p[P_STRIDE + axis] + reach - cut;
        if (x->shape[2 + axis] < 1 || size < 1)
            REFUSE("conv2d: nothing is left of a transposed convolution of %lldx%lld pixels",
                   (long long)x->shape[2], (long long)x->shape[3]);
        y.shape[2 + axis] = size;
    }
    return KERNEL(conv_geometry_of)(&y, w, p, s, error);
}

/* y = activation(y + bias), each plane with its number. */
static void end_planes(const conv_geometry *s, const real *bias, int activation, real *y) {
    const int64_t plane = s->height * s->width;
#pragma omp parallel for schedule(static) if (s->batch * s->channels * plane > 50000)
    for (int64_t k = 0; k < s->batch * s->channels; k++) {
        const real start = bias ? bias[k % s->channels] : 0;
        for (int64_t i = k * plane; i < (k + 1) * plane; i++)
            y[i] = activate(y[i] + start, activation);
    }
}

/* conv2d_transpose(x, w, b if has_bias) -> activation(b + the transpose of a convolution of x by w) */
EXPORT int KERNEL(conv2d_transpose_shape)(SHAPE_ARGUMENTS) {
    conv_geometry s;
    if (transposed_geometry(&in[0], &in[1], p, &s, error)) return 1;
    if (p[P_BIAS] && (in[2].ndim != 1 || in[2].shape[0] != s.channels))
        REFUSE("conv2d: the bias must have %lld elements, one a channel", (long long)s.channels);
    SET_SHAPE(&out[0], s.batch, s.channels, s.height, s.width);
    return 0;
}

EXPORT int KERNEL(conv2d_transpose)(KERNEL_ARGUMENTS) {
    conv_geometry s;
    if (transposed_geometry(&in[0], &in[1], p, &s, error)) return 1;
    const real *x = in[0].data, *w = in[1].data, *bias = p[P_BIAS] ? in[2].data : NULL;
    const int activation = (int)p[P_ACTIVATION];
    const algorithm *a = algorithm_for(&s, p[P_EXACT] != 0, INPUT_GRADIENT);
    if (a->transposed ? a->transposed(&s, w, x, bias, activation, out[0].data)
                      : a->input_gradient(&s, w, x, out[0].data))
        REFUSE("conv2d: out of memory");
    if (!a->transposed && (bias || activation != NO_ACTIVATION))
        end_planes(&s, bias, activation, out[0].data);
    return 0;
}

/* conv2d_weight_gradient(x, w for its shape, g) -> gradient with respect to w */
EXPORT int KERNEL(conv2d_weight_gradient_shape)(SHAPE_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error) ||
        check_gradient(&s, &in[2], error))
        return 1;
    set_shape(&out[0], 4, in[1].shape);
    return 0;
}

EXPORT int KERNEL(conv2d_weight_gradient)(KERNEL_ARGUMENTS) {
    conv_geometry s;
    if (KERNEL(conv_geometry_of)(&in[0], &in[1], p, &s, error)) return 1;
    const real *x = in[0].data, *g = in[2].data;
    if (algorithm_for(&s, p[P_EXACT] != 0, WEIGHT_GRADIENT)->weight_gradient(&s, x, g, out[0].data))
        REFUSE("conv2d: out of memory");
    return 0;
}
