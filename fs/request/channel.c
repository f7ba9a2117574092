/*
 * channel.c - see channel.h.
 *
 * A program that reads in small pieces asks again a few microseconds after it was answered. If all
 * threads slept, the way there and back would be mostly the waking of a processor: that costs
 * several times what a small request does, in a virtual machine most of all. So a thread that is
 * about to sleep looks for a short while whether the next request comes.
 *
 * That must not cost others anything. So only one thread looks at a time, and only while no request
 * is worked on; and it yields its processor to any thread that wants it. Each time that nothing
 * came, threads sleep at once for twice as many requests as before, until looking has paid once
 * more. They also do while requests come two at a time: then there is work enough, and the kernel,
 * which does not know that a thread looks, wakes another one in vain for each request.
 *
 * A request may be taken by another thread after it was seen: then this one sleeps in read() as it
 * would have anyway. Nothing but speed depends on what is kept here. All of it is atomic and
 * relaxed: it orders nothing else, for the processor or for ThreadSanitizer.
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
    MAX_PENALTY = 63, /* requests for which no thread looks */
    SEND_TRIES = 1000,
    SEND_PAUSE_US = 1000,
};

struct Channel {
    bool look; /* at all: set at the start */
    atomic_uint at_work;
    atomic_uint to_skip; /* requests, before a thread looks again */
    atomic_bool looking;
    atomic_uint penalty; /* of the thread that has set `looking` */
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

static unsigned get(const atomic_uint *what)
{
    return atomic_load_explicit(what, memory_order_relaxed);
}

static void set(atomic_uint *what, unsigned value)
{
    atomic_store_explicit(what, value, memory_order_relaxed);
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
    } while (get(&channel->at_work) == 0 && g_get_monotonic_time() < end);
    return false;
}

static void look(Channel *channel, int fd)
{
    unsigned to_skip = get(&channel->to_skip);

    if (to_skip > 0) {
        set(&channel->to_skip, to_skip - 1);
    } else if (see_request(channel, fd)) {
        set(&channel->penalty, 0);
    } else {
        set(&channel->penalty, MIN(2 * get(&channel->penalty) + 1, MAX_PENALTY));
        set(&channel->to_skip, get(&channel->penalty));
    }
}

static void begin_work(Channel *channel)
{
    is_at_work = true;
    if (atomic_fetch_add_explicit(&channel->at_work, 1, memory_order_relaxed) > 0)
        set(&channel->to_skip, MAX_PENALTY);
}

static void end_work(Channel *channel)
{
    if (is_at_work)
        atomic_fetch_sub_explicit(&channel->at_work, 1, memory_order_relaxed);
    is_at_work = false;
}

ssize_t channel_receive(Channel *channel, int fd, void *buf, size_t len)
{
    end_work(channel);
    if (channel->look && get(&channel->at_work) == 0 &&
        !atomic_exchange_explicit(&channel->looking, true, memory_order_relaxed)) {
        look(channel, fd);
        atomic_store_explicit(&channel->looking, false, memory_order_relaxed);
    }

    ssize_t n = read(fd, buf, len);
    if (n > 0)
        begin_work(channel);
    else if (n < 0 && errno == ECONNABORTED) /* unmounted while the kernel had a request */
        errno = ENODEV;
    return n;
}

static bool is_passing(int error)
{
    return error == EINTR || error == EAGAIN || error == ENOMEM;
}

/* Should the kernel have had the answer, it says ENOENT to the second. */
ssize_t channel_send(int fd, const struct iovec *iov, int n)
{
    ssize_t sent = writev(fd, iov, n);

    for (unsigned tries = 1; sent < 0 && is_passing(errno) && tries < SEND_TRIES; tries++) {
        g_usleep(SEND_PAUSE_US);
        sent = writev(fd, iov, n);
    }
    return sent;
}

/* ---- as libfuse calls it ------------------------------------------------------------------ */

static ssize_t receive(int fd, void *buf, size_t len, void *userdata)
{
    Fs *const *fs = userdata;
    ssize_t n = channel_receive((*fs)->channel, fd, buf, len);

    if (n > 0)
        greeting_look_at((*fs)->greeting, buf, (size_t)n);
    return n;
}

static ssize_t send_first(const Fs *fs, int fd, const struct iovec *iov, int n)
{
    ssize_t r = greeting_answer(fs->greeting, fd, iov, n);

    if (r > 0 && fs->ring && greeting_has(fs->greeting, GREETING_RINGS))
        ring_open(fs->ring);
    return r;
}

static ssize_t send_parts(int fd, struct iovec *iov, int n, void *userdata)
{
    Fs *const *fs = userdata;

    if (greeting_is_answer((*fs)->greeting, iov))
        return send_first(*fs, fd, iov, n);
    return (*fs)->ring ? ring_reply((*fs)->ring, fd, iov, n) : channel_send(fd, iov, n);
}

int channel_attach(struct fuse_session *session)
{
    static const struct fuse_custom_io io = {.read = receive, .writev = send_parts};

    return fuse_session_custom_io(session, &io, fuse_session_fd(session));
}
