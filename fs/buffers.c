/*
 * Large buffers are kept for the next read, a limited number of them, which bounds what an idle
 * daemon holds on to. Small ones come from the allocator and go back to it; so do huge ones.
 */
#include "buffers.h"

#include <stdbool.h>

enum {
    SMALL = 65536, /* bytes that the allocator has at hand */
};

struct Buffers {
    size_t size;
    unsigned max_idle;
    GMutex lock;
    GPtrArray *idle; /* protected by lock */
};

Buffers *buffers_new(size_t size, unsigned max_idle)
{
    Buffers *buffers = g_new0(Buffers, 1);

    buffers->size = size;
    buffers->max_idle = max_idle;
    g_mutex_init(&buffers->lock);
    buffers->idle = g_ptr_array_new_with_free_func(g_free);
    return buffers;
}

void buffers_free(Buffers *buffers)
{
    if (!buffers)
        return;
    g_ptr_array_unref(buffers->idle);
    g_mutex_clear(&buffers->lock);
    g_free(buffers);
}

static bool is_kept(const Buffers *buffers, size_t len)
{
    return len > SMALL && len <= buffers->size;
}

void *buffers_get(Buffers *buffers, size_t len)
{
    if (!is_kept(buffers, len))
        return g_try_malloc(len);

    g_mutex_lock(&buffers->lock);
    void *kept = buffers->idle->len
                     ? g_ptr_array_steal_index_fast(buffers->idle, buffers->idle->len - 1)
                     : NULL;
    g_mutex_unlock(&buffers->lock);
    return kept ? kept : g_try_malloc(buffers->size);
}

void buffers_put(Buffers *buffers, void *buffer, size_t len)
{
    if (buffer && is_kept(buffers, len)) {
        g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&buffers->lock);

        if (buffers->idle->len < buffers->max_idle) {
            g_ptr_array_add(buffers->idle, buffer);
            return;
        }
    }
    g_free(buffer);
}
