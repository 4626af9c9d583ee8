/* Rows of a matrix by their numbers, and the gradient: rows added where they came from.
 *
 * For the gradient every thread owns a range of the matrix's rows and walks over all ids: no two
 * threads write to one place, and each sum has one order, whatever the number of threads.
 */
#include "kernels.h"

/* Refuse ids outside [0, rows). */
static int check_ids(const int32_t *ids, int64_t n, int64_t rows, char *error) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= rows)
            REFUSE("embedding: id %d at position %lld is not in [0, %lld): "
                   "the vocabulary is another one?", (int)ids[i], (long long)i, (long long)rows);
    return 0;
}

/* embedding(W (V, E), ids int32 (...)) -> (..., E) */
EXPORT int KERNEL(embedding_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    if (in[0].ndim != 2 || in[1].ndim >= MAX_DIMS)
        REFUSE("embedding: needs a matrix and ids of at most %d dimensions", MAX_DIMS - 1);
    out[0].ndim = in[1].ndim + 1;
    for (int64_t i = 0; i < in[1].ndim; i++) out[0].shape[i] = in[1].shape[i];
    out[0].shape[in[1].ndim] = in[0].shape[1];
    return 0;
}

EXPORT int KERNEL(embedding)(KERNEL_ARGUMENTS) {
    UNUSED(p);
    const int64_t n = count(&in[1]), size = in[0].shape[1];
    const real *w = in[0].data;
    const int32_t *ids = in[1].data;
    real *y = out[0].data;
    if (check_ids(ids, n, in[0].shape[0], error)) return 1;
#pragma omp parallel for schedule(static) if (n * size > 100000)
    for (int64_t i = 0; i < n; i++)
        memcpy(y + i * size, w + ids[i] * size, sizeof(real) * (size_t)size);
    return 0;
}

/* embedding_gradient(W (V, E), ids int32 (...), g (..., E)) -> gradient of W; only W's shape is
 * looked at */
EXPORT int KERNEL(embedding_gradient_shape)(SHAPE_ARGUMENTS) {
    UNUSED(p);
    int fits = in[0].ndim == 2 && in[2].ndim == in[1].ndim + 1;
    for (int64_t i = 0; fits && i < in[1].ndim; i++) fits = in[2].shape[i] == in[1].shape[i];
    if (!fits || in[2].shape[in[1].ndim] != in[0].shape[1])
        REFUSE("embedding_gradient: needs a matrix, ids, and a row of the matrix's length for each");
    set_shape(&out[0], 2, in[0].shape);
    return 0;
}

EXPORT int KERNEL(embedding_gradient)(KERNEL_ARGUMENTS) {
    UNUSED(p);
    const int64_t n = count(&in[1]), rows = in[0].shape[0], size = in[0].shape[1];
    const int32_t *ids = in[1].data;
    const real *g = in[2].data;
    real *d_w = out[0].data;
    if (check_ids(ids, n, rows, error)) return 1;
    const int64_t parts = min64(rows, 4 * thread_count());
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t from = rows * part / parts, to = rows * (part + 1) / parts;
        memset(d_w + from * size, 0, sizeof(real) * (size_t)((to - from) * size));
        for (int64_t i = 0; i < n; i++) {
            if (ids[i] < from || ids[i] >= to) continue;
            real *restrict d = d_w + ids[i] * size;
            const real *restrict row = g + i * size;
            for (int64_t k = 0; k < size; k++) d[k] += row[k];
        }
    }
    return 0;
}
