/*
 * memory.c - see memory.h.
 *
 * Left to itself, the C library raises its limits when it sees large blocks come and go, as
 * tables of large images do, and then keeps up to 64 MiB for each thread.
 */
#include "memory.h"

#include <malloc.h>

enum {
    LARGE = 1 << 20, /* bytes */
};

void memory_tune(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, LARGE);
    mallopt(M_TRIM_THRESHOLD, LARGE);
#endif
}

void memory_give_back(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
