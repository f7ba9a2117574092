/*
 * room.c - whether there is memory for many small things.
 *
 * The engine itself says -ENOMEM when a small allocation fails; GLib, which its callers use,
 * ends the process. So before many of them are made, of a number that an image chooses, one of
 * their size together is tried and given back. Another thread may take the memory in between;
 * but what is asked for here is more than is needed.
 */
#include "qcow.h"

enum {
    SMALL = 256 << 10, /* bytes that are not asked about: without so much, all is lost anyway */
};

bool qc_room_for(uint64_t bytes)
{
    if (bytes <= SMALL)
        return true;
    void *tried = bytes <= SIZE_MAX ? g_try_malloc((size_t)bytes) : NULL;
    g_free(tried);
    return tried != NULL;
}
