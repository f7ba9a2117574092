/*
 * ring.h - fetching the kernel's requests over io_uring, where it offers that: Linux 6.14, with
 * fuse's parameter enable_uring on. Whatever libfuse's version, as it does not know of it.
 */
#ifndef SNAPTREE_RING_H
#define SNAPTREE_RING_H

#include <stdbool.h>
#include <sys/uio.h>

struct fuse_session;

typedef struct Ring Ring;

/*
 * Make what the process could not make later: to be called before it is confined, after it has
 * forked. device: of /dev/fuse, borrowed. -EOPNOTSUPP: the kernel does not offer it.
 */
int ring_new(int device, Ring **ret);
/* Ends its threads. Accepts NULL. */
void ring_free(Ring *ring);

/*
 * Start its threads, which wait for the kernel's first request. They handle requests as libfuse's
 * own threads would. 0, or a negative errno: it is of no use, then.
 */
int ring_start(Ring *ring, struct fuse_session *session);

/* The kernel has agreed to it: fetch from now on. */
void ring_open(Ring *ring);

/* Whether the mount ends because a ring has failed. */
bool ring_has_failed(Ring *ring);

/*
 * Let no request be handled any more, and wait for those that are being handled. Those that are
 * left to other threads can be answered until ring_free().
 */
void ring_pause(Ring *ring);

/*
 * writev(2) of a reply of libfuse, but for the first: one to a request that came over a ring goes
 * back there, all others go to the device. Thread-safe.
 */
ssize_t ring_reply(Ring *ring, int fd, const struct iovec *iov, int n);

#endif
