/* buffers.h - large buffers for reads, a few of them kept so that they need not be mapped anew. */
#ifndef SNAPTREE_BUFFERS_H
#define SNAPTREE_BUFFERS_H

#include <glib.h>

typedef struct Buffers Buffers;

/* Buffers of more than 64 KiB and at most size bytes are kept when given back, max_idle of them. */
Buffers *buffers_new(size_t size, unsigned max_idle);
void buffers_free(Buffers *buffers); /* accepts NULL */

/*
 * A buffer of at least len bytes, or NULL without memory. One of more than 64 KiB begins with a
 * page, as reading past the kernel's page cache asks for.
 */
void *buffers_get(Buffers *buffers, size_t len);
/* Give it back, with the same len. Accepts NULL. */
void buffers_put(Buffers *buffers, void *buffer, size_t len);

#endif
