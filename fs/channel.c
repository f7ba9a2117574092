/*
 * Channel.
 *
 * Somebody who reads in small pieces asks again a few microseconds after he was answered. Would
 * all threads sleep by then, the way there and back is mostly the waking of a processor: that
 * costs several times what a small request does, in a virtual machine most of all. So a thread
 * that is about to sleep looks for a short while whether the next request comes.
 *
 * That must not cost others anything. So only one thread looks at a time, and only while no
 * request is worked on; it yields its processor to whoever wants it; each time that nothing came,
 * threads sleep at once for twice as many requests as before, until looking paid once more; and
 * they do while requests come two at a time: then there is work enough, and the kernel, which
 * does not know that somebody looks, wakes another thread for each of them in vain.
 *
 * A request may be taken by another thread after it was seen: then this one sleeps in read() as
 * it would have anyway. Nothing but speed depends on what is kept here; all of it is atomic.
 */
#include "channel.h"

#include "fs.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    LOOK_US = 50,     /* how long to look for a request */
    MAX_PENALTY = 63, /* requests for which nobody looks */
};

struct Channel {
    bool look; /* at all: set at the start */
    atomic_uint at_work;
    atomic_uint to_skip; /* requests, before somebody looks again */
    atomic_flag looking;
    unsigned penalty; /* of the thread that has set `looking` */
};

static _Thread_local bool is_at_work;

Channel *channel_new(unsigned processors)
{
    Channel *channel = g_new0(Channel, 1);

    channel->look = processors > 1;
    return channel;
}

void channel_free(Channel *channel)
{
    g_free(channel);
}

/* Whether a request came before the time was up. */
static bool see_request(Channel *channel, int fd)
{
    struct pollfd device = {.fd = fd, .events = POLLIN};
    gint64 end = g_get_monotonic_time() + LOOK_US;

    do {
        if (poll(&device, 1, 0) != 0)
            return true;
        sched_yield();
    } while (atomic_load(&channel->at_work) == 0 && g_get_monotonic_time() < end);
    return false;
}

static void look(Channel *channel, int fd)
{
    unsigned to_skip = atomic_load(&channel->to_skip);

    if (to_skip > 0) {
        atomic_store(&channel->to_skip, to_skip - 1);
    } else if (see_request(channel, fd)) {
        channel->penalty = 0;
    } else {
        channel->penalty = MIN(2 * channel->penalty + 1, MAX_PENALTY);
        atomic_store(&channel->to_skip, channel->penalty);
    }
}

ssize_t channel_receive(Channel *channel, int fd, void *buf, size_t len)
{
    if (is_at_work)
        atomic_fetch_sub(&channel->at_work, 1);
    is_at_work = false;
    if (channel->look && atomic_load(&channel->at_work) == 0 &&
        !atomic_flag_test_and_set(&channel->looking)) {
        look(channel, fd);
        atomic_flag_clear(&channel->looking);
    }

    ssize_t n = read(fd, buf, len);
    if (n > 0) {
        is_at_work = true;
        if (atomic_fetch_add(&channel->at_work, 1) > 0)
            atomic_store(&channel->to_skip, MAX_PENALTY);
    }
    return n;
}

/* ---- as libfuse calls it ------------------------------------------------------------------ */

static ssize_t receive(int fd, void *buf, size_t len, void *userdata)
{
    Fs *const *fs = userdata;

    return channel_receive((*fs)->channel, fd, buf, len);
}

static ssize_t send_parts(int fd, struct iovec *iov, int n, void *userdata)
{
    (void)userdata;
    return writev(fd, iov, n);
}

int channel_attach(struct fuse_session *session)
{
    static const struct fuse_custom_io io = {.read = receive, .writev = send_parts};

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
