/*
 * fetcher.c - see fetcher.h.
 *
 * A fetcher is a thread with an io_uring of its own and memory for one request and its answer,
 * which the kernel and the fetcher own in turn. So as many requests can be in work on a processor
 * as it has fetchers; while all are busy, the next request waits, even if other processors have
 * fetchers that are idle. Of several idle ones the kernel takes the one that was busy last. A
 * request that is left to another thread to answer (a command) keeps its fetcher waiting, as only
 * the fetcher may talk to its ring. (To lend the ring more memory meanwhile does not help: the
 * kernel wants back first what it has given out last, so a slow read would hold up the requests
 * that came after it to the same thread; and the kernel looks for requests that wait only when one
 * is answered.)
 *
 * A ring can do two things only, and on two descriptors: exchange requests on /dev/fuse, and wait
 * for the fetcher's own wake-up. It is restricted to that before the process is confined, which
 * afterwards can make no other.
 *
 * To copy a large answer takes long, and a fetcher that stays on the processor of the reader takes
 * that time from the very reader it works for. So while answers are large, it runs on any
 * processor.
 *
 * Locks: Crew.lock protects the state of the crew, Fetcher.lock the fields that say so; neither is
 * taken while the other is held.
 */
#include "fetcher.h"

#include "fs.h"
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SUBMISSIONS = 4, /* one to exchange requests, one to be woken; twice, for the rounding */
    REQUEST_BYTES = FS_MAX_REQUEST + 4096, /* with its headers */
    LARGE = 64 * 1024,
    MANY = 8, /* answers of one size, after which a fetcher is moved */
    FILE_DEVICE = 0,
    FILE_WAKE = 1,
};

/* What the kernel is told; its headers have it since 6.14. */
enum {
    COMMAND_REGISTER = 1,
    COMMAND_COMMIT_AND_FETCH = 2,
};

typedef struct CommandArea {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
} CommandArea;

/* What a ring here takes (IORING_SETUP_SQE128): a command's area goes on behind the usual entry. */
typedef union LongEntry {
    struct io_uring_sqe usual;
    struct {
        uint8_t before[offsetof(struct io_uring_sqe, cmd)];
        CommandArea area;
    };
    uint8_t bytes[2 * sizeof(struct io_uring_sqe)];
} LongEntry;

/* The fetcher that this thread is, while it handles a request. */
static _Thread_local Fetcher *handling;

static void *map(size_t len)
{
    void *mem =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return mem == MAP_FAILED ? NULL : mem;
}

/* Copy an answer, its header and the rest, to where the kernel takes it. */
static void fill(Fetcher *fetcher, const struct iovec *iov, int n)
{
    struct fuse_out_header out = *(const struct fuse_out_header *)iov[0].iov_base;
    size_t len = 0;

    for (int i = 1; i < n; i++) {
        if (iov[i].iov_len > FS_MAX_REQUEST - len) { /* more than was asked for */
            out.error = -EIO;
            len = 0;
            break;
        }
        memcpy((char *)fetcher->payload + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    fetcher->headers.out = out;
    fetcher->headers.payload_len = (uint32_t)len;
    fetcher->answered = true;
}

/* ---- what it tells the kernel -------------------------------------------------------------- */

static void exchange(Fetcher *fetcher, uint32_t what)
{
    LongEntry entry = {0};
    struct io_uring_sqe *sqe = &entry.usual;

    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, FILE_DEVICE, NULL, 0, 0);
    sqe->flags = IOSQE_FIXED_FILE;
    sqe->cmd_op = what;
    if (what == COMMAND_REGISTER) {
        sqe->addr = (uint64_t)(uintptr_t)fetcher->parts;
        sqe->len = G_N_ELEMENTS(fetcher->parts);
    } else {
        entry.area.commit_id = fetcher->headers.commit_id;
    }
    entry.area.queue = (uint16_t)fetcher->processor;
    io_uring_sqe_set_data(sqe, fetcher);
    memcpy(io_uring_get_sqe(&fetcher->uring), &entry, sizeof(entry));
}

static void wait_for_wake(Fetcher *fetcher)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&fetcher->uring);

    io_uring_prep_poll_add(sqe, FILE_WAKE, POLLIN);
    sqe->flags = IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, NULL);
}

/* ---- requests ------------------------------------------------------------------------------ */

static void keep_on_processor(Fetcher *fetcher, bool keep)
{
    const Crew *crew = fetcher->crew;
    cpu_set_t one;

    fetcher->anywhere = !keep;
    if (!crew->has_processors || !CPU_ISSET(fetcher->processor, &crew->processors))
        return;
    CPU_ZERO(&one);
    CPU_SET(fetcher->processor, &one);
    sched_setaffinity(0, sizeof(one), keep ? &one : &crew->processors);
}

static void note_size(Fetcher *fetcher, size_t len)
{
    fetcher->other = (len >= LARGE) == fetcher->anywhere ? 0 : fetcher->other + 1;
    if (fetcher->other >= MANY) {
        fetcher->other = 0;
        keep_on_processor(fetcher, fetcher->anywhere);
    }
}

/*
 * Put the request together as if it had been read from the device: its header, the header of its
 * kind, the rest. Returns its length; 0: it is not sound.
 */
static size_t assemble(const Fetcher *fetcher)
{
    const FetcherHeaders *headers = &fetcher->headers;
    size_t payload = headers->payload_len, len = headers->in.len;
    char *request = fetcher->request;

    if (len < sizeof(headers->in) + payload || payload > FS_MAX_REQUEST ||
        len > sizeof(headers->in) + sizeof(headers->op_in) + payload)
        return 0;
    size_t op = len - sizeof(headers->in) - payload;
    memcpy(request, &headers->in, sizeof(headers->in));
    memcpy(request + sizeof(headers->in), headers->op_in, op);
    memcpy(request + sizeof(headers->in) + op, fetcher->payload, payload);
    return len;
}

/* Whether the request is to be handled; if not, the end of the connection answers it. */
static bool begin(Fetcher *fetcher)
{
    g_mutex_lock(&fetcher->lock);
    bool wanted = !fetcher->paused;
    fetcher->busy = wanted;
    fetcher->unique = wanted ? fetcher->headers.in.unique : 0;
    fetcher->answered = false;
    g_mutex_unlock(&fetcher->lock);
    return wanted;
}

/* Wait for the answer, if another thread gives it. Returns whether there is one. */
static bool finish(Fetcher *fetcher)
{
    g_mutex_lock(&fetcher->lock);
    fetcher->busy = false;
    if (fetcher->paused)
        g_cond_broadcast(&fetcher->changed);
    while (!fetcher->answered && !fetcher->gone)
        g_cond_wait(&fetcher->changed, &fetcher->lock);
    bool answered = fetcher->answered;
    fetcher->unique = 0;
    g_mutex_unlock(&fetcher->lock);
    return answered;
}

/* Answer a request that is not sound. */
static void refuse(Fetcher *fetcher)
{
    struct fuse_out_header out = {
        .len = sizeof(out), .error = -EIO, .unique = fetcher->headers.in.unique};

    fill(fetcher, &(struct iovec){&out, sizeof(out)}, 1);
    exchange(fetcher, COMMAND_COMMIT_AND_FETCH);
}

static void handle(Fetcher *fetcher)
{
    struct fuse_buf buf = {.mem = fetcher->request, .size = assemble(fetcher)};

    if (buf.size == 0) {
        refuse(fetcher);
        return;
    }
    if (!begin(fetcher))
        return;
    handling = fetcher;
    fuse_session_process_buf(fetcher->crew->session, &buf);
    handling = NULL;
    if (finish(fetcher)) {
        note_size(fetcher, fetcher->headers.payload_len);
        exchange(fetcher, COMMAND_COMMIT_AND_FETCH);
    }
}

/* ---- the thread ---------------------------------------------------------------------------- */

static bool connection_is_over(const Crew *crew)
{
    struct pollfd device = {.fd = crew->device, .events = POLLIN};

    return poll(&device, 1, 0) > 0 && (device.revents & POLLERR);
}

/*
 * The kernel has no more requests for this fetcher. At the end of the connection that is as it
 * should be. And before the first request rings may be turned off; then all requests come through
 * the device.
 */
static void lose(const Fetcher *fetcher, int error)
{
    Crew *crew = fetcher->crew;

    if (error == -ENOTCONN || error == -ECONNABORTED || error == -ECANCELED ||
        connection_is_over(crew))
        return;
    g_mutex_lock(&crew->lock);
    bool first = crew->error == 0;
    crew->error = error;
    g_mutex_unlock(&crew->lock);
    if (!first)
        return;
    if (error == -EOPNOTSUPP) {
        log_info("io_uring is not used: it was turned off meanwhile");
        return;
    }
    log_error("a ring failed: %s; the mount ends", g_strerror(-error));
    pthread_kill(crew->starter, SIGTERM);
}

static void reap(Fetcher *fetcher)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&fetcher->uring, &cqe) == 0) {
        bool is_request = io_uring_cqe_get_data(cqe) != NULL;
        int result = cqe->res;

        io_uring_cqe_seen(&fetcher->uring, cqe);
        if (is_request && result < 0)
            lose(fetcher, result);
        else if (is_request)
            handle(fetcher);
    }
}

static CrewState current_state(Crew *crew)
{
    g_mutex_lock(&crew->lock);
    CrewState state = crew->state;
    g_mutex_unlock(&crew->lock);
    return state;
}

/*
 * Report, and wait until the kernel has agreed to rings, or the end. Returns whether to use this
 * ring.
 */
static bool wait_for_kernel(Crew *crew, int error)
{
    g_mutex_lock(&crew->lock);
    crew->n_ready++;
    if (error < 0)
        crew->error = error;
    g_cond_broadcast(&crew->changed);
    while (crew->state == CREW_WAITS)
        g_cond_wait(&crew->changed, &crew->lock);
    bool open = crew->state == CREW_WORKS && error == 0;
    g_mutex_unlock(&crew->lock);
    return open;
}

static gpointer work(gpointer data)
{
    Fetcher *fetcher = data;
    unsigned ring = (unsigned)fetcher->uring.ring_fd;

    /* Only the thread that enables a ring may use it. */
    if (!wait_for_kernel(fetcher->crew,
                         io_uring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0)))
        return NULL;
    keep_on_processor(fetcher, true);
    wait_for_wake(fetcher);
    exchange(fetcher, COMMAND_REGISTER);
    while (current_state(fetcher->crew) != CREW_GOES) {
        int r = io_uring_submit_and_wait(&fetcher->uring, 1);

        if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
            lose(fetcher, r);
            break;
        }
        reap(fetcher);
    }
    io_uring_submit(&fetcher->uring); /* the last answer */
    return NULL;
}

/* ---- as the ring calls it ------------------------------------------------------------------ */

int fetcher_start(Fetcher *fetcher)
{
    fetcher->thread = g_thread_try_new("ring", work, fetcher, NULL);
    return fetcher->thread ? 0 : -EAGAIN;
}

void fetcher_pause(Fetcher *fetcher)
{
    g_mutex_lock(&fetcher->lock);
    fetcher->paused = true;
    while (fetcher->busy)
        g_cond_wait(&fetcher->changed, &fetcher->lock);
    g_mutex_unlock(&fetcher->lock);
}

void fetcher_end(Fetcher *fetcher)
{
    uint64_t one = 1;

    g_mutex_lock(&fetcher->lock);
    fetcher->gone = true;
    g_cond_broadcast(&fetcher->changed);
    g_mutex_unlock(&fetcher->lock);
    if (write(fetcher->wake, &one, sizeof(one)) < 0)
        return; /* it was woken before, or does not sleep yet */
}

bool fetcher_answer_own(uint64_t unique, const struct iovec *iov, int n)
{
    if (!handling || handling->unique != unique)
        return false;
    fill(handling, iov, n);
    return true;
}

bool fetcher_answer(Fetcher *fetcher, uint64_t unique, const struct iovec *iov, int n)
{
    g_mutex_lock(&fetcher->lock);
    bool found = fetcher->unique == unique;
    if (found) {
        fill(fetcher, iov, n);
        g_cond_broadcast(&fetcher->changed);
    }
    g_mutex_unlock(&fetcher->lock);
    return found;
}

/* ---- making and ending --------------------------------------------------------------------- */

/* (liburing 2.3 declares functions for this and for enabling, and lacks them.) */
static int restrict_uring(const struct io_uring *uring)
{
    struct io_uring_restriction all[4] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_URING_CMD},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_POLL_ADD},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
    };

    return io_uring_register((unsigned)uring->ring_fd, IORING_REGISTER_RESTRICTIONS, all,
                             G_N_ELEMENTS(all));
}

int fetcher_init(Fetcher *fetcher, Crew *crew, unsigned processor)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN,
    };

    fetcher->crew = crew;
    fetcher->processor = processor;
    g_mutex_init(&fetcher->lock);
    g_cond_init(&fetcher->changed);
    fetcher->uring.ring_fd = -1;
    fetcher->request = map(REQUEST_BYTES);
    fetcher->payload = map(FS_MAX_REQUEST);
    fetcher->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fetcher->wake < 0)
        return -errno;
    if (!fetcher->request || !fetcher->payload)
        return -ENOMEM;
    fetcher->parts[0] = (struct iovec){&fetcher->headers, sizeof(fetcher->headers)};
    fetcher->parts[1] = (struct iovec){fetcher->payload, FS_MAX_REQUEST};

    int r = io_uring_queue_init_params(SUBMISSIONS, &fetcher->uring, &params);
    if (r < 0) {
        fetcher->uring.ring_fd = -1;
        return r;
    }
    r = io_uring_register_files(&fetcher->uring, (int[]){crew->device, fetcher->wake}, 2);
    return r < 0 ? r : restrict_uring(&fetcher->uring);
}

void fetcher_clear(Fetcher *fetcher)
{
    if (fetcher->thread)
        g_thread_join(fetcher->thread);
    if (fetcher->uring.ring_fd >= 0)
        io_uring_queue_exit(&fetcher->uring);
    if (fetcher->wake >= 0)
        close(fetcher->wake);
    if (fetcher->request)
        munmap(fetcher->request, REQUEST_BYTES);
    if (fetcher->payload)
        munmap(fetcher->payload, FS_MAX_REQUEST);
    g_cond_clear(&fetcher->changed);
    g_mutex_clear(&fetcher->lock);
}
