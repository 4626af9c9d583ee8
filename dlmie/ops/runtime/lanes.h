/* Images of many channels <-> vectors that hold one pixel of LANES channels.
 *
 * In memory the pixels of one channel are neighbors, and channels are `pitch` elements apart.
 * Transposed a vector's width at a time, whatever is the same for all pixels but not for all
 * channels becomes plain vector arithmetic, for every image size.
 */
#ifndef DLMIE_LANES_H
#define DLMIE_LANES_H

#include "vectors.h"

/* n <= LANES pixels of `count` <= LANES channels from `rows` on -> v[0], ..., v[n - 1]; the other
 * channels are zero, and nothing at or after `end` is read. */
static inline __attribute__((always_inline)) void
read_pixels(const real *rows, int64_t pitch, int64_t count, int64_t n, const real *end, vec *v) {
    if (count == LANES && rows + (LANES - 1) * pitch + LANES <= end) {
        for (int l = 0; l < LANES; l++) v[l] = load(rows + l * pitch);
    } else {
        for (int l = 0; l < LANES; l++) {
            v[l] = (vec){0};
            if (l < count) memcpy(&v[l], rows + l * pitch, (size_t)n * sizeof(real));
        }
    }
    transpose(v);
}

/* `size` pixels -> as many vectors at `pixels`.  Writes up to LANES - 1 vectors beyond. */
static void to_lanes(const real *rows, int64_t pitch, int64_t count, int64_t size, const real *end,
                     real *pixels) {
    for (int64_t p = 0; p < size; p += LANES) {
        vec v[LANES];
        read_pixels(rows + p, pitch, count, min64(size - p, LANES), end, v);
        for (int l = 0; l < LANES; l++) store(pixels + (p + l) * LANES, v[l]);
    }
}

/* The inverse: exactly `size` pixels of `count` channels are written.  The last vectors overlap those
 * before, where there are any; else up to LANES - 1 vectors beyond are read. */
static void from_lanes(const real *pixels, int64_t size, real *rows, int64_t pitch, int64_t count) {
    for (int64_t next = 0; next < size; next += LANES) {
        const int64_t p = min64(next, max64(size - LANES, 0));
        vec v[LANES];
        for (int l = 0; l < LANES; l++) v[l] = load(pixels + (p + l) * LANES);
        transpose(v);
        if (count == LANES && size >= LANES) {
            for (int l = 0; l < LANES; l++) store(rows + p + l * pitch, v[l]);
        } else {
            const size_t bytes = (size_t)min64(size - p, LANES) * sizeof(real);
            for (int l = 0; l < count; l++) memcpy(rows + p + l * pitch, &v[l], bytes);
        }
    }
}

#endif
