/*
 * buffers.c - see buffers.h.
 *
 * Large buffers are kept for the next read, a limited number of them, which bounds what an idle
 * daemon holds on to. Small ones come from the allocator and go back to it; so do huge ones.
 *
 * The first few lie in one piece of memory, the slab, in pages as large as the kernel has them:
 * bytes are copied into a buffer, and from there by the kernel, which looks up each page. The
 * others come from the allocator; they are kept, too, while there are buffers of the slab in use.
 *
 * Invariants, under Buffers.lock: each buffer of the slab is in idle or in use; idle has at most
 * max_idle buffers. A page of the slab takes memory once it was used.
 */
#include "buffers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SMALL = 65536,        /* bytes that the allocator has at hand */
    LARGE_PAGE = 2 << 20, /* where such pages begin; elsewhere than on x86 too, or no harm */
};

struct Buffers {
    size_t size;
    unsigned max_idle;
    char *slab; /* of max_idle buffers; NULL: there was no memory, or none are to be kept */
    GMutex lock;
    GPtrArray *idle; /* protected by lock */
};

static void make_slab(Buffers *buffers)
{
    size_t bytes = buffers->size * buffers->max_idle;
    void *slab;

    if (bytes == 0 || posix_memalign(&slab, LARGE_PAGE, bytes) != 0)
        return;
    madvise(slab, bytes, MADV_HUGEPAGE);
    buffers->slab = slab;
    for (unsigned i = buffers->max_idle; i-- > 0;)
        g_ptr_array_add(buffers->idle, buffers->slab + i * buffers->size);
}

static bool is_of_slab(const Buffers *buffers, const void *buffer)
{
    const char *at = buffer;

    return buffers->slab && at >= buffers->slab &&
           at < buffers->slab + buffers->size * buffers->max_idle;
}

Buffers *buffers_new(size_t size, unsigned max_idle)
{
    Buffers *buffers = g_new0(Buffers, 1);

    buffers->size = size;
    buffers->max_idle = max_idle;
    g_mutex_init(&buffers->lock);
    buffers->idle = g_ptr_array_new();
    make_slab(buffers);
    return buffers;
}

void buffers_free(Buffers *buffers)
{
    if (!buffers)
        return;
    for (guint i = 0; i < buffers->idle->len; i++) {
        if (!is_of_slab(buffers, buffers->idle->pdata[i]))
            free(buffers->idle->pdata[i]);
    }
    g_ptr_array_unref(buffers->idle);
    g_mutex_clear(&buffers->lock);
    free(buffers->slab);
    g_free(buffers);
}

/* NULL without memory. What is large begins with a page: see buffers.h. */
static void *allocate(size_t len)
{
    void *buffer = NULL;

    if (len <= SMALL)
        return malloc(len);
    return posix_memalign(&buffer, (size_t)getpagesize(), len) == 0 ? buffer : NULL;
}

static bool is_kept(const Buffers *buffers, size_t len)
{
    return len > SMALL && len <= buffers->size;
}

void *buffers_get(Buffers *buffers, size_t len)
{
    if (!is_kept(buffers, len))
        return allocate(len);

    g_mutex_lock(&buffers->lock);
    void *kept = buffers->idle->len
                     ? g_ptr_array_steal_index_fast(buffers->idle, buffers->idle->len - 1)
                     : NULL;
    g_mutex_unlock(&buffers->lock);
    return kept ? kept : allocate(buffers->size);
}

/*
 * Keep a buffer. Returns one that is too many then, which is none of the slab; or NULL. Lock held.
 */
static void *keep(Buffers *buffers, void *buffer)
{
    guint i = 0;

    g_ptr_array_add(buffers->idle, buffer);
    if (buffers->idle->len <= buffers->max_idle)
        return NULL;
    while (is_of_slab(buffers, buffers->idle->pdata[i]) && i + 1 < buffers->idle->len)
        i++;
    return g_ptr_array_steal_index_fast(buffers->idle, i);
}

void buffers_put(Buffers *buffers, void *buffer, size_t len)
{
    void *unwanted = buffer;

    if (buffer && is_kept(buffers, len)) {
        g_mutex_lock(&buffers->lock);
        unwanted = keep(buffers, buffer);
        g_mutex_unlock(&buffers->lock);
    }
    free(unwanted);
}
