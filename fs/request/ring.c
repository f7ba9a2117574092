/*
 * ring.c - see ring.h.
 *
 * A request that is read(2) from /dev/fuse wakes a thread on some other processor, and its answer
 * wakes the reader again. Over io_uring a request goes to a thread that stays on the processor on
 * which it was made, and an answer and the wait for the next request are one system call: no thread
 * on another processor has to be woken, and small requests take half the time.
 *
 * The kernel has a queue for each processor, which fetchers (fetcher.c) serve. It offers that in
 * its first request (greeting.c); once it has the answer, it waits with all requests until each
 * queue is served. So all that can fail is done before. Requests without a reply (FORGET,
 * INTERRUPT) still arrive through the device; notifications leave through it.
 */
#include "ring.h"

#include "channel.h"
#include "fetcher.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

enum {
    ALL_FETCHERS = 128, /* about as many, unless there are many processors */
    MIN_FETCHERS = 8,   /* of a processor */
    MAX_FETCHERS = 32,
    MAX_PROCESSORS = 512,
    FETCHER_FILES = 2, /* of each, its ring and its wake-up */
};

struct Ring {
    Crew crew;
    unsigned n_fetchers;
    Fetcher *fetchers; /* of one processor: neighbours */
};

/* ---- making and ending ------------------------------------------------------------------- */

/* How many processors the kernel has queues for; 0 when that cannot be told. */
static unsigned count_processors(void)
{
    g_autofree char *text = NULL;
    guint64 last = 0;

    if (!g_file_get_contents("/sys/devices/system/cpu/possible", &text, NULL, NULL))
        return 0;
    g_strchomp(text);
    if (strcmp(text, "0") != 0 &&
        (!g_str_has_prefix(text, "0-") ||
         !g_ascii_string_to_unsigned(text + 2, 10, 0, MAX_PROCESSORS - 1, &last, NULL)))
        return 0;
    return (unsigned)last + 1;
}

static bool is_offered(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents("/sys/module/fuse/parameters/enable_uring", &text, NULL, NULL) &&
           (*text == 'Y' || *text == '1');
}

/* Images need descriptors, too. */
static bool may_open(unsigned files)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) < 0 || files <= limit.rlim_cur / 2;
}

int ring_new(int device, Ring **ret)
{
    unsigned processors = is_offered() ? count_processors() : 0;
    int r = 0;

    if (processors == 0)
        return -EOPNOTSUPP;
    unsigned each = CLAMP(ALL_FETCHERS / processors, MIN_FETCHERS, MAX_FETCHERS);
    if (!may_open(processors * each * FETCHER_FILES))
        return -EMFILE;
    Ring *ring = g_new0(Ring, 1);
    Crew *crew = &ring->crew;

    crew->device = device;
    crew->has_processors = sched_getaffinity(0, sizeof(crew->processors), &crew->processors) == 0;
    g_mutex_init(&crew->lock);
    g_cond_init(&crew->changed);
    ring->fetchers = g_new0(Fetcher, (gsize)processors * each);
    for (; ring->n_fetchers < processors * each && r == 0; ring->n_fetchers++)
        r = fetcher_init(&ring->fetchers[ring->n_fetchers], crew, ring->n_fetchers / each);
    if (r < 0) {
        ring_free(ring);
        return r;
    }
    *ret = ring;
    return 0;
}

static void set_state(Crew *crew, CrewState state)
{
    g_mutex_lock(&crew->lock);
    crew->state = state;
    g_cond_broadcast(&crew->changed);
    g_mutex_unlock(&crew->lock);
}

void ring_free(Ring *ring)
{
    if (!ring)
        return;
    set_state(&ring->crew, CREW_GOES);
    for (unsigned i = 0; i < ring->n_fetchers; i++)
        fetcher_end(&ring->fetchers[i]);
    for (unsigned i = 0; i < ring->n_fetchers; i++)
        fetcher_clear(&ring->fetchers[i]);
    g_cond_clear(&ring->crew.changed);
    g_mutex_clear(&ring->crew.lock);
    g_free(ring->fetchers);
    g_free(ring);
}

int ring_start(Ring *ring, struct fuse_session *session)
{
    Crew *crew = &ring->crew;
    unsigned started = 0;
    int r = 0;

    crew->session = session;
    crew->starter = pthread_self();
    while (started < ring->n_fetchers && r == 0) {
        r = fetcher_start(&ring->fetchers[started]);
        started += r == 0;
    }
    g_mutex_lock(&crew->lock);
    while (crew->n_ready < started)
        g_cond_wait(&crew->changed, &crew->lock);
    r = r == 0 ? crew->error : r;
    g_mutex_unlock(&crew->lock);
    return r;
}

void ring_open(Ring *ring)
{
    set_state(&ring->crew, CREW_WORKS);
    log_info("requests come over io_uring, to %u threads", ring->n_fetchers);
}

bool ring_has_failed(Ring *ring)
{
    g_mutex_lock(&ring->crew.lock);
    int error = ring->crew.error;
    g_mutex_unlock(&ring->crew.lock);
    return error < 0 && error != -EOPNOTSUPP;
}

void ring_pause(Ring *ring)
{
    for (unsigned i = 0; i < ring->n_fetchers; i++)
        fetcher_pause(&ring->fetchers[i]);
}

/* ---- as the channel calls it ------------------------------------------------------------- */

static ssize_t total(const struct iovec *iov, int n)
{
    ssize_t len = 0;

    for (int i = 0; i < n; i++)
        len += (ssize_t)iov[i].iov_len;
    return len;
}

ssize_t ring_reply(Ring *ring, int fd, const struct iovec *iov, int n)
{
    uint64_t unique = ((const struct fuse_out_header *)iov[0].iov_base)->unique;

    if (unique == 0) /* a notification */
        return channel_send(fd, iov, n);
    if (fetcher_answer_own(unique, iov, n))
        return total(iov, n);
    for (unsigned i = 0; i < ring->n_fetchers; i++) {
        if (fetcher_answer(&ring->fetchers[i], unique, iov, n))
            return total(iov, n);
    }
    return channel_send(fd, iov, n);
}
