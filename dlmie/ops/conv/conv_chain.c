/* A chain of convolutions as one operation: inverted residual blocks, one after the other.
 *
 * M. Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (2018).  Step i is
 *
 *   y_i = activation(conv(y_source, w_i) + b_i) [+ y_residual]
 *
 * where the convolution is 1x1, depthwise, or any one of the chain's input.  Between steps, activations
 * stand as vectors of channels, so that no step moves anything to where it is needed (chain_tasks.h).
 * What only a depthwise step reads is computed a band of rows at a time into its area (window.h) and
 * never stored.  All of a chain is one parallel region.  Of many images each thread computes its own,
 * from the first step to the last.  On those that cannot be shared out evenly all threads work together:
 * each on the same part of the images in every step, so that what it reads is in its own cache.  They
 * spin until the tasks of a step are done, and sleep if that takes long, but do not wait for a thread
 * that is late, which finds its share done.
 *
 * Filters are packed in the order of the inner loops by the task that uses them: that costs a sixth of
 * the products of a 7x7 image, less of any other, and nothing has to be kept from call to call.  Those
 * of a 1x1 step may come packed, where they do not change any more.
 *
 * Sums start from the bias and run in the order of conv_gemm.c and conv_depthwise.c: results are
 * the same to the last bit, whatever the number of images and threads.
 *
 * The gradient with respect to the input is a chain as well: the same steps backward, each transposed.
 * Of what the steps computed, it needs only the masks of their activations, one byte a number.
 */
#include "chain_tasks.h"

/* ---- Plan ----------------------------------------------------------------------------------- */

enum { STEP_NUMBERS = 3 + P_COUNT }; /* source, residual, packed, and those of the convolution */

static int is_output(const chain *c, int64_t i) {
    for (int64_t k = 0; k < c->outputs; k++)
        if (c->wanted[k] == i) return 1;
    return 0;
}

static tensor slot_shape(tensor input, const step *steps, int64_t number) {
    if (number == 0) return input;
    const conv_geometry *s = &steps[number - 1].s;
    tensor t = {NULL, 4, {s->batch, s->filters, s->out_h, s->out_w}, 0};
    return t;
}

/* The sizes of every step, for an input of the chain; refuses what does not fit together. */
static int read_steps(tensor input, const tensor *weights, int64_t length, const int64_t *numbers,
                      step *steps, char *error) {
    const tensor *next = weights;
    for (int64_t i = 0; i < length; i++, numbers += STEP_NUMBERS) {
        step *q = &steps[i];
        *q = (step){.source = numbers[0], .residual = numbers[1], .packed = numbers[2] != 0,
                    .last_reader = -1, .mask = -1};
        const int64_t *convolution = numbers + 3;
        const tensor x = slot_shape(input, steps, q->source), *w = next++;
        if (KERNEL(conv_geometry_of)(&x, w, convolution, &q->s, error)) return 1;
        const conv_geometry *s = &q->s;
        q->activation = convolution[P_ACTIVATION];
        q->depthwise = s->groups > 1;
        q->plain = !q->depthwise && s->kernel_h * s->kernel_w * s->stride_h * s->stride_w == 1 &&
                   s->out_h == s->height && s->out_w == s->width;
        if (q->depthwise ? s->groups != s->channels || s->filters != s->channels
                         : !q->plain && q->source > 0)
            REFUSE("conv2d: a chain takes 1x1 filters, and one filter a channel");
        if (!q->plain && q->residual >= 0) REFUSE("conv2d: only products add a residual");
        if (q->packed && (!q->plain || s->filters % BLOCK))
            REFUSE("conv2d: only 1x1 filters are packed, a multiple of %d", BLOCK);
        q->w = w->data;
        if (convolution[P_BIAS]) {
            const tensor *b = next++;
            if (b->ndim != 1 || b->shape[0] != q->s.filters)
                REFUSE("conv2d: the bias must have %lld elements, one a filter",
                       (long long)q->s.filters);
            q->bias = b->data;
        }
        if (q->residual < 0) continue;
        const tensor r = slot_shape(input, steps, q->residual), y = slot_shape(input, steps, i + 1);
        for (int d = 0; d < 4; d++)
            if (r.ndim != 4 || r.shape[d] != y.shape[d])
                REFUSE("conv2d: cannot add images of %lldx%lldx%lld and %lldx%lldx%lld",
                       (long long)r.shape[1], (long long)r.shape[2], (long long)r.shape[3],
                       (long long)y.shape[1], (long long)y.shape[2], (long long)y.shape[3]);
    }
    return 0;
}

/* Give every activation its mask, except in steps that add a residual; returns the bytes of an image. */
static int64_t place_masks(step *steps, int64_t length) {
    int64_t size = 0;
    for (int64_t i = 0; i < length; i++) {
        if (steps[i].activation == NO_ACTIVATION || steps[i].residual >= 0) continue;
        steps[i].mask = size;
        size += round_up(steps[i].s.filters, BLOCK) * pixels_of(&steps[i]);
    }
    return size;
}

/* Whether a depthwise step reads all rows: a fused product computes, and masks, only what is read. */
static int reads_all_rows(const conv_geometry *s) {
    const int64_t reach = (s->kernel_h - 1) * s->dilation_h + 1;
    return s->stride_h <= reach && (s->out_h - 1) * s->stride_h + reach - s->pad_top >= s->height;
}

/* Which products only the depthwise step right after them reads. */
static void mark_fused(chain *c) {
    step *steps = c->steps;
    for (int64_t i = 0; i < c->count; i++) {
        if (steps[i].source) steps[steps[i].source - 1].last_reader = i;
        if (steps[i].residual > 0) steps[steps[i].residual - 1].last_reader = i;
    }
    for (int64_t i = 0; i + 1 < c->count; i++) {
        const step *after = &steps[i + 1];
        int readers = 0;
        for (int64_t k = i + 1; k < c->count; k++)
            readers += (steps[k].source == i + 1) + (steps[k].residual == i + 1);
        steps[i].fused = steps[i].plain && steps[i].residual < 0 && after->depthwise &&
                         after->source == i + 1 && readers == 1 && !is_output(c, i) &&
                         (after->transposed || reads_all_rows(&after->s));
    }
}

/* Whether a step reads the input as it reads the outputs of others. */
static int input_in_lanes(const chain *c) {
    for (int64_t i = 0; i < c->count; i++) {
        const step *q = &c->steps[i];
        if (!q->residual || (!q->source && (q->plain || q->depthwise))) return 1;
    }
    return 0;
}

static int64_t slot_size(const chain *c, int64_t number) {
    if (number == 0 && !input_in_lanes(c)) return 0;
    const tensor t = slot_shape(c->in, c->steps, number);
    return c->chunk * round_up(t.shape[1], LANES) * t.shape[2] * t.shape[3];
}

/* The first place in the arena where nothing lives that step `reader` or a later one reads. */
static int64_t find_place(const chain *c, int64_t from, int64_t size, int64_t input_reader) {
    int64_t place = 0;
    for (int again = 1; again;) {
        again = 0;
        for (int64_t number = 0; number < from; number++) {
            const int64_t reader = number ? c->steps[number - 1].last_reader : input_reader;
            const int64_t other = number ? c->steps[number - 1].place : c->input_place;
            const int64_t end = other + slot_size(c, number);
            /* The step that reads it last writes its own output while it still reads. */
            if ((number && c->steps[number - 1].fused) || reader < from - 1) continue;
            if (place < end && other < place + size) place = end, again = 1;
        }
    }
    return place;
}

static void place_slots(chain *c) {
    int64_t input_reader = -1;
    for (int64_t i = 0; i < c->count; i++) {
        step *q = &c->steps[i];
        if (!q->source || !q->residual) input_reader = i;
        /* What a fused product reads is read by the step after it. */
        if (q->fused && q->source == 0) input_reader = i + 1;
        if (q->fused && q->source) {
            step *before = &c->steps[q->source - 1];
            before->last_reader = max64(before->last_reader, i + 1);
        }
    }
    c->input_place = 0, c->arena_size = slot_size(c, 0);
    for (int64_t i = 0; i < c->count; i++) {
        step *q = &c->steps[i];
        if (q->fused) continue;
        const int64_t size = slot_size(c, i + 1);
        q->place = find_place(c, i + 1, size, input_reader);
        c->arena_size = max64(c->arena_size, q->place + size);
    }
}

static void add_unit(chain *c, unit u) {
    c->units[c->unit_count++] = u;
}

/* More bands than the cache asks for, where threads would have nothing to do. */
static window divide(window w, int64_t others, int64_t threads) {
    const int64_t wanted = (3 * threads + others - 1) / max64(others, 1);
    const int64_t most = max64(w.out_h * w.step_h / (4 * w.kernel_h), 1);
    w.bands = max64(w.bands, min64(min64(wanted, most), w.out_h));
    return w;
}

static void plan_units(chain *c, int64_t threads) {
    if (input_in_lanes(c))
        add_unit(c, (unit){.kind = FROM_ROWS, .groups = vectors_of(c->in.shape[1])});
    for (int64_t i = 0; i < c->count; i++) {
        const step *q = &c->steps[i];
        if (q->fused) continue;
        unit u = {.kind = q->depthwise ? FILTER : q->plain ? PRODUCT : PATCH, .step = i,
                  .groups = (vectors_of(q->s.filters) + 1) / 2, .runs = 1};
        if (q->depthwise) {
            const conv_geometry back = transposed_geometry(q->s);
            u.window = divide(q->transposed ? gradient_window(&back, FUSED_BYTES / 2)
                                            : forward_window(&q->s, FUSED_BYTES / 2),
                              u.groups, threads);
            const int fused = q->source && c->steps[q->source - 1].fused;
            c->own_size = max64(c->own_size,
                                2 * u.window.area + panel_size(q) +
                                    (fused ? panel_size(&c->steps[q->source - 1]) : 0));
        } else if (!q->plain) {
            const int64_t depth = round_up(depth_of(q), LANES);
            c->own_size = max64(c->own_size, (LANES + 1 + depth) * PATCHES + LANES * LANES +
                                                 u.groups * panel_size(q));
            u.runs = max64(min64(4 * threads, pixels_of(q) / PATCHES), 1);
        } else {
            const int64_t tiles = (pixels_of(q) + TILE_PIXELS - 1) / TILE_PIXELS;
            c->own_size = max64(c->own_size, panel_size(q));
            u.runs = max64(min64((4 * threads + u.groups - 1) / max64(u.groups, 1), tiles / 4), 1);
        }
        add_unit(c, u);
        for (int64_t k = 0; k < c->outputs; k++)
            if (c->wanted[k] == i)
                add_unit(c, (unit){.kind = TO_ROWS, .step = i, .output = k,
                                   .groups = vectors_of(q->s.filters)});
    }
    for (int64_t k = 0; k < c->unit_count; k++) {
        unit *u = &c->units[k];
        u->tasks = u->kind == PATCH ? u->runs
                   : u->kind == FILTER ? u->groups * u->window.bands
                   : u->kind == PRODUCT ? u->groups * u->runs : u->groups;
    }
}

static void run_task(const chain *c, const unit *u, int64_t task, place_of_work here) {
    switch (u->kind) {
    case FROM_ROWS: run_from_rows(c, task, here); break;
    case TO_ROWS: run_to_rows(c, u, task, here); break;
    case PRODUCT: run_product(c, u, task, here); break;
    case PATCH: run_patches(c, u, task, here); break;
    default: run_filter(c, u, task, here);
    }
}

/* All steps for some images at a time, which a thread computes alone. */
static void work_apart(chain *c, place_of_work here) {
    for (int64_t k; (k = __atomic_fetch_add(&c->taken, 1, __ATOMIC_RELAXED)) < c->chunks;) {
        here.first = k * c->apart / c->chunks;
        here.images = (k + 1) * c->apart / c->chunks - here.first;
        for (const unit *u = c->units; u < c->units + c->unit_count; u++)
            for (int64_t t = 0; t < u->tasks; t++) run_task(c, u, t, here);
    }
}

/* All steps for the images that are left, each by all threads. */
static void work_together(const chain *c, place_of_work here) {
    int64_t *done = c->progress;
    for (here.first = c->apart; here.first < c->batch; here.first += c->chunk) {
        here.images = min64(c->chunk, c->batch - here.first);
        for (int64_t k = 0; k < c->unit_count; k++, done += 1 + c->threads) {
            const unit *u = &c->units[k];
            for (int64_t t; (t = next_task(done + 1, u->tasks, c->threads)) >= 0;) {
                run_task(c, u, t, here);
                __atomic_fetch_add(done, 1, __ATOMIC_RELEASE);
            }
            wait_for(done, u->tasks);
        }
    }
}

/* What every thread does; `memory` holds arenas, one for each of them and one for all, and their own. */
static void work(chain *c, real *memory, int64_t arenas) {
    const int64_t me = thread_number();
    place_of_work here = {.own = memory + arenas * c->arena_size + me * c->own_size};
    here.arena = memory + me * c->arena_size;
    work_apart(c, here);
    here.arena = memory + (arenas - 1) * c->arena_size;
    work_together(c, here);
}

/* Threads share out evenly what images they can; returns those that are left. */
static int64_t divide_images(chain *c) {
    const int64_t each = c->batch / c->threads, left = c->batch % c->threads;
    c->apart = each * c->threads;
    c->chunks = (each + IMAGES_AT_ONCE - 1) / IMAGES_AT_ONCE * c->threads;
    const int64_t most = c->chunks ? (c->apart + c->chunks - 1) / c->chunks : 1;
    c->chunk = max64(most, min64(left, IMAGES_AT_ONCE));
    return left;
}

/* Plan and run a chain, of which the caller has filled in input, steps and outputs; free the steps. */
static int run_chain(chain *c, char *error) {
    c->threads = thread_count();
    c->batch = c->in.shape[0];
    c->own_size = LANES * LANES;
    c->units = malloc((size_t)(1 + c->count + c->outputs) * sizeof *c->units);
    int failed = !c->units;
    if (!failed) {
        const int64_t left = divide_images(c), parts = (left + c->chunk - 1) / c->chunk;
        mark_fused(c);
        place_slots(c);
        plan_units(c, left ? c->threads : 1);
        c->progress = calloc((size_t)max64(parts * c->unit_count * (1 + c->threads), 1),
                             sizeof *c->progress);
        const int64_t arenas = max64((c->apart ? c->threads : 0) + (left ? 1 : 0), 1);
        const scratch memory = take_scratch(arenas * c->arena_size + c->threads * c->own_size);
        failed = !c->progress || !memory.data;
        if (!failed) {
#pragma omp parallel
            work(c, memory.data, arenas);
        }
        if (memory.data) give_scratch(memory);
    }
    free(c->progress), free(c->units), free(c->steps);
    if (failed) REFUSE("conv2d: out of memory");
    return 0;
}

/* ---- The operations -------------------------------------------------------------------------- */

static step *new_steps(int64_t length) { return malloc((size_t)max64(length, 1) * sizeof(step)); }

/* conv2d_chain(x, w and perhaps b of every step) -> the outputs of some steps, and if `masks` the masks
 * of all activations: bytes (batch, size), laid out as chain_tasks.h says
 *   p = {steps, outputs, masks, the step of every output, and for every step: source, residual (-1:
 *        none), whether w is packed, the parameters of its convolution as in conv.c} */
EXPORT int KERNEL(conv2d_chain_shape)(SHAPE_ARGUMENTS) {
    step *steps = new_steps(p[0]);
    if (!steps) REFUSE("conv2d: out of memory");
    const int failed = read_steps(in[0], in + 1, p[0], p + 3 + p[1], steps, error);
    for (int64_t k = 0; k < p[1] && !failed; k++) {
        const tensor y = slot_shape(in[0], steps, p[3 + k] + 1);
        set_shape(&out[k], 4, y.shape);
    }
    if (p[2] && !failed) SET_SHAPE(&out[p[1]], in[0].shape[0], place_masks(steps, p[0]));
    free(steps);
    return failed;
}

EXPORT int KERNEL(conv2d_chain)(KERNEL_ARGUMENTS) {
    chain c = {.count = p[0], .outputs = p[1], .wanted = p + 3, .in = in[0], .out = out,
               .input_mask = -1, .steps = new_steps(p[0])};
    if (!c.steps) REFUSE("conv2d: out of memory");
    if (read_steps(in[0], in + 1, p[0], p + 3 + p[1], c.steps, error)) {
        free(c.steps);
        return 1;
    }
    if (p[2]) {
        c.masks = out[p[1]].data;
        c.masks_size = place_masks(c.steps, p[0]);
        if (LANES < BLOCK) /* some blocks are not filled */
            memset(c.masks, 0, (size_t)count(&out[p[1]]));
    }
    return run_chain(&c, error);
}

/* The steps from `first` on, backward and transposed: step j reads the gradient of what step
 * length - 1 - j computed, and computes that of what it read. */
static void reverse_steps(const step *steps, int64_t length, int64_t first, step *reversed) {
    for (int64_t i = length - 1; i >= first; i--) {
        step *q = &reversed[length - 1 - i];
        *q = (step){.s = transposed_geometry(steps[i].s), .depthwise = steps[i].depthwise,
                    .plain = steps[i].plain, .transposed = 1, .source = length - 1 - i,
                    .residual = -1, .activation = NO_ACTIVATION, .w = steps[i].w,
                    .mask = i > 0 ? steps[i - 1].mask : -1, .last_reader = -1};
        for (int64_t k = i; k < length; k++) /* a step that adds what this one reads */
            if (steps[k].residual == i) q->residual = length - 1 - k;
    }
}

/* Whether the gradient of these steps is such a chain: can_go_back in chain.py says when. */
static int can_go_back(const step *steps, int64_t length, int64_t first) {
    if (first < 0 || first >= length) return 0;
    for (int64_t i = first; i < length; i++) {
        int added = 0; /* how often what it reads is */
        for (int64_t k = 0; k < length; k++) added += steps[k].residual == i;
        if (steps[i].source != i || !(steps[i].plain || steps[i].depthwise) ||
            (steps[i].residual >= 0 && steps[i].activation != NO_ACTIVATION) ||
            added > (steps[i].plain ? 1 : 0))
            return 0;
    }
    return 1;
}

static int read_gradient(const tensor *in, const int64_t *p, step *steps, int64_t *masks_size,
                         char *error) {
    if (read_steps(in[0], in + 3, p[0], p + 2, steps, error)) return 1;
    if (!can_go_back(steps, p[0], p[1]))
        REFUSE("conv2d: the gradient of a chain goes through 1x1 and depthwise steps in a row");
    *masks_size = place_masks(steps, p[0]);
    const tensor y = slot_shape(in[0], steps, p[0]);
    for (int d = 0; d < 4; d++)
        if (in[2].ndim != 4 || in[2].shape[d] != y.shape[d])
            REFUSE("conv2d: the gradient of the output must be %lldx%lldx%lldx%lld",
                   (long long)y.shape[0], (long long)y.shape[1], (long long)y.shape[2],
                   (long long)y.shape[3]);
    if (in[1].ndim != 2 || in[1].shape[0] != y.shape[0] || in[1].shape[1] != *masks_size)
        REFUSE("conv2d: the masks of a chain must be %lldx%lld bytes", (long long)y.shape[0],
               (long long)*masks_size);
    return 0;
}

/* conv2d_chain_gradient(x for its shape, masks, g, w of every step) -> the gradient of what step `first`
 * reads, before the activation of the step that computes it, from that of the last step's output
 *   p = {steps, first, and for every step the numbers above, without biases} */
EXPORT int KERNEL(conv2d_chain_gradient_shape)(SHAPE_ARGUMENTS) {
    step *steps = new_steps(p[0]);
    if (!steps) REFUSE("conv2d: out of memory");
    int64_t masks_size;
    const int failed = read_gradient(in, p, steps, &masks_size, error);
    if (!failed) {
        const tensor x = slot_shape(in[0], steps, p[1]);
        set_shape(&out[0], 4, x.shape);
    }
    free(steps);
    return failed;
}

EXPORT int KERNEL(conv2d_chain_gradient)(KERNEL_ARGUMENTS) {
    const int64_t length = p[0] - p[1], wanted = length - 1;
    step *steps = new_steps(p[0]);
    chain c = {.count = length, .outputs = 1, .wanted = &wanted, .in = in[2], .out = out,
               .masks = in[1].data, .gradient = 1, .steps = new_steps(length)};
    int failed = !steps || !c.steps;
    if (failed) snprintf(error, ERROR_SIZE, "conv2d: out of memory");
    else failed = read_gradient(in, p, steps, &c.masks_size, error);
    if (failed) {
        free(steps), free(c.steps);
        return 1;
    }
    reverse_steps(steps, p[0], p[1], c.steps);
    c.input_mask = steps[p[0] - 1].mask;
    free(steps);
    return run_chain(&c, error);
}
