/*
 * greeting.c - see greeting.h.
 *
 * Which thread writes what: `wanted` is set before the first request is read. The thread that reads
 * the first request sets `offered`, and then `unique`. Each thread that answers a request compares
 * its number with `unique`; the one that finds it there has the answer to the first request in
 * hand, and `offered` is set by then. That thread clears `unique`, so that nothing else is taken
 * for this answer, and sets `agreed` once the kernel has taken the answer: until then the kernel
 * refuses what is agreed on. A thread that handles the next request before `agreed` is set does
 * without.
 */
#include "greeting.h"

#include "channel.h"
#include "fs.h"

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* Of the flags, those above 32 bits are a word of their own, which this one announces. */
enum {
    INIT_EXT = 1 << 30,
    FLAGS2_PASSTHROUGH = 1 << (37 - 32),
    FLAGS2_OVER_IO_URING = 1 << (41 - 32),
};

/* Up to where a kernel without that word says what it offers. */
#define FIRST_INIT_BYTES offsetof(struct fuse_init_in, flags2)

/* A file that the kernel reads by itself must not lie on a file system that lies on another. */
#define STACK_DEPTH 1
/* Where the answer says so: behind flags2, since Linux 6.9. */
#define DEPTH_AT (offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t))

struct Greeting {
    unsigned wanted; /* of GreetingOffer */
    atomic_uint offered;
    atomic_uint agreed;
    atomic_uint_least64_t unique; /* of the first request; 0: not seen, or answered */
};

Greeting *greeting_new(void)
{
    return g_new0(Greeting, 1);
}

void greeting_free(Greeting *greeting)
{
    g_free(greeting);
}

void greeting_want(Greeting *greeting, GreetingOffer offer)
{
    greeting->wanted |= offer;
}

bool greeting_has(const Greeting *greeting, GreetingOffer offer)
{
    return (atomic_load(&greeting->agreed) & offer) != 0;
}

void greeting_look_at(Greeting *greeting, const void *request, size_t len)
{
    const struct fuse_in_header *in = request;
    const struct fuse_init_in *init = (const void *)(in + 1);
    unsigned offered = 0;

    if (len < sizeof(*in) + FIRST_INIT_BYTES || in->opcode != FUSE_INIT)
        return;
    bool has_flags2 = len >= sizeof(*in) + sizeof(*init) && (init->flags & INIT_EXT);
    if (init->flags & FUSE_PARALLEL_DIROPS)
        offered |= GREETING_PARALLEL;
    if (has_flags2 && (init->flags2 & FLAGS2_OVER_IO_URING))
        offered |= GREETING_RINGS;
    if (has_flags2 && (init->flags2 & FLAGS2_PASSTHROUGH))
        offered |= GREETING_PASSTHROUGH;
    if (!(offered & greeting->wanted))
        return;
    atomic_store(&greeting->offered, offered & greeting->wanted);
    atomic_store(&greeting->unique, in->unique);
}

bool greeting_is_answer(const Greeting *greeting, const struct iovec *iov)
{
    uint64_t unique = ((const struct fuse_out_header *)iov[0].iov_base)->unique;

    return unique != 0 && unique == atomic_load(&greeting->unique);
}

/* A fetcher has memory for requests of this size. */
static bool fits_rings(const struct fuse_init_out *init)
{
    return init->max_write <= FS_MAX_REQUEST &&
           (size_t)init->max_pages * (size_t)sysconf(_SC_PAGESIZE) <= FS_MAX_REQUEST;
}

/* Add to an answer what is agreed on. */
static void amend(struct fuse_init_out *init, unsigned agreed)
{
    const uint32_t depth = STACK_DEPTH;

    if (agreed & (GREETING_RINGS | GREETING_PASSTHROUGH))
        init->flags |= INIT_EXT;
    if (agreed & GREETING_PARALLEL) /* libfuse 3.14 does not pass it on */
        init->flags |= FUSE_PARALLEL_DIROPS;
    if (agreed & GREETING_RINGS)
        init->flags2 |= FLAGS2_OVER_IO_URING;
    if (agreed & GREETING_PASSTHROUGH) {
        init->flags2 |= FLAGS2_PASSTHROUGH;
        memcpy((char *)init + DEPTH_AT, &depth, sizeof(depth));
    }
}

ssize_t greeting_answer(Greeting *greeting, int fd, const struct iovec *iov, int n)
{
    const struct fuse_out_header *out = iov[0].iov_base;
    unsigned agreed = atomic_load(&greeting->offered);
    struct fuse_init_out init;

    atomic_store(&greeting->unique, 0);
    if (out->error || n != 2 || iov[1].iov_len != sizeof(init))
        return channel_send(fd, iov, n);
    memcpy(&init, iov[1].iov_base, sizeof(init));
    if (!fits_rings(&init))
        agreed &= ~(unsigned)GREETING_RINGS;
    amend(&init, agreed);

    struct iovec parts[2] = {iov[0], {&init, sizeof(init)}};
    ssize_t r = channel_send(fd, parts, 2);
    if (r > 0)
        atomic_store(&greeting->agreed, agreed);
    return r;
}
