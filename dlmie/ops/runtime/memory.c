/* Memory for the outputs of kernels.
 *
 * malloc returns large blocks to the operating system as soon as they are freed, and every call of
 * a compiled function would pay for the page faults again: for a layer of 150 MB that is more than
 * its arithmetic.  Freed blocks are therefore kept, up to a limit, and handed out again.  Kernels
 * take their working memory here, too, without Python's lock: the list has a lock of its own.
 */
#include "kernels.h"

#ifndef DLMIE_DOUBLE /* once, not for each precision */
#ifdef __linux__
#include <sys/mman.h>
#endif

#define SLOTS 512
#define GRAIN ((size_t)1 << 16)
#define HUGE_PAGE ((size_t)1 << 21)

static struct { void *block; size_t size; } idle[SLOTS]; /* oldest first */
static int idle_count;
static size_t idle_bytes, idle_limit = (size_t)1 << 31;

static char lock_flag;

static void lock(void) {
    while (__atomic_test_and_set(&lock_flag, __ATOMIC_ACQUIRE)) {}
}

static void unlock(void) { __atomic_clear(&lock_flag, __ATOMIC_RELEASE); }

static size_t rounded(size_t size) { return (size + GRAIN - 1) / GRAIN * GRAIN; }

static void forget(int slot) {
    idle_bytes -= idle[slot].size;
    memmove(&idle[slot], &idle[slot + 1], sizeof idle[0] * (size_t)(idle_count - slot - 1));
    idle_count--;
}

/* A block of at least `size` bytes, 64-byte aligned; `*actual` is what to hand back to give. */
EXPORT void *dlmie_take(size_t size, size_t *actual) {
    size = rounded(size);
    int best = -1;
    lock();
    for (int i = idle_count - 1; i >= 0; i--) /* the most recent is the likeliest in cache */
        if (idle[i].size >= size && idle[i].size <= size + size / 4 &&
            (best < 0 || idle[i].size < idle[best].size))
            best = i;
    if (best >= 0) {
        void *block = idle[best].block;
        *actual = idle[best].size;
        forget(best);
        unlock();
        return block;
    }
    unlock();
    void *block = NULL;
    *actual = size;
    const int huge = size >= 2 * HUGE_PAGE;
    if (posix_memalign(&block, huge ? HUGE_PAGE : 64, size)) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (huge) madvise(block, size, MADV_HUGEPAGE);
#endif
    return block;
}

/* Return a block; the oldest idle ones make room for it. */
EXPORT void dlmie_give(void *block, size_t size) {
    lock();
    if (size > idle_limit) { /* which another thread may be changing */
        unlock();
        free(block);
        return;
    }
    while (idle_count == SLOTS || idle_bytes + size > idle_limit) {
        free(idle[0].block);
        forget(0);
    }
    idle[idle_count].block = block;
    idle[idle_count++].size = size;
    idle_bytes += size;
    unlock();
}

/* Keep at most so many idle bytes from now on; 0 frees all. */
EXPORT void dlmie_limit_idle(size_t bytes) {
    lock();
    idle_limit = bytes;
    while (idle_count && idle_bytes > idle_limit) {
        free(idle[0].block);
        forget(0);
    }
    unlock();
}
#endif
