/* The pixels that a filter's element meets, one output pixel after the other.
 *
 * Row r of the patches of a convolution belongs to channel r / taps and tap r % taps of the
 * filters; output pixels are counted through the whole batch.
 */
#ifndef DLMIE_PATCHES_H
#define DLMIE_PATCHES_H

#include "conv.h"

/* One group of the convolution: its sizes, and how output pixels map to input ones. */
typedef struct {
    conv_geometry s;
    int64_t channels, filters; /* of the group */
    int64_t taps, rows, pixels;
    int64_t x_image, y_image;  /* elements from one image to the next */
} plan;

static plan make_plan(const conv_geometry *s) {
    plan q = {.s = *s};
    q.channels = s->channels / s->groups;
    q.filters = s->filters / s->groups;
    q.taps = s->kernel_h * s->kernel_w;
    q.rows = q.channels * q.taps;
    q.pixels = s->out_h * s->out_w;
    q.x_image = s->channels * s->height * s->width;
    q.y_image = s->filters * q.pixels;
    if (q.taps == 1 && s->stride_h == 1 && s->stride_w == 1 && s->pad_top == 0 &&
        s->pad_left == 0 && q.pixels == s->height * s->width) { /* images are one long row */
        q.s.height = q.s.out_h = 1;
        q.s.width = q.s.out_w = q.pixels;
    }
    return q;
}

/* Row r of the patches of pixels [first, first + size) of the batch -> target. */
static void unroll_row(const plan *q, const real *x, int64_t r, int64_t first, int64_t size,
                       real *target) {
    const conv_geometry *s = &q->s;
    const int64_t channel = r / q->taps, tap = r % q->taps, stride = s->stride_w;
    const int64_t dy = tap / s->kernel_w * s->dilation_h - s->pad_top;
    const int64_t dx = tap % s->kernel_w * s->dilation_w - s->pad_left;
    int64_t from, to; /* output columns whose source lies inside the image */
    valid_range(s->out_w, stride, dx, s->width, &from, &to);
    for (int64_t run, done = 0; done < size; done += run, target += run) {
        const int64_t pixel = first + done, ox = pixel % s->out_w, row = pixel / s->out_w;
        const int64_t iy = row % s->out_h * s->stride_h + dy;
        run = min64(s->out_w - ox, size - done);
        if (iy < 0 || iy >= s->height) {
            memset(target, 0, (size_t)run * sizeof(real));
            continue;
        }
        const real *source = x + row / s->out_h * q->x_image +
                             (channel * s->height + iy) * s->width + ox * stride + dx;
        const int64_t a = min64(max64(from - ox, 0), run), b = max64(min64(to - ox, run), a);
        for (int64_t i = 0; i < a; i++) target[i] = 0;
        if (stride == 1)
            memcpy(target + a, source + a, (size_t)(b - a) * sizeof(real));
        else if (stride == 2)
            for (int64_t i = a; i < b; i++) target[i] = source[2 * i];
        else
            for (int64_t i = a; i < b; i++) target[i] = source[i * stride];
        for (int64_t i = b; i < run; i++) target[i] = 0;
    }
}

#endif
