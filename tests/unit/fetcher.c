/* What a fetcher's ring can still do, what is a request, and what an answer. */
#include "fetcher.h"

#include "fs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The result of one operation; or of submitting it. */
static int try_operation(struct io_uring *uring, const struct io_uring_sqe *operation)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(uring);
    struct io_uring_cqe *cqe;

    *sqe = *operation;
    int r = io_uring_submit_and_wait(uring, 1);
    if (r < 0 || io_uring_peek_cqe(uring, &cqe) < 0)
        return r < 0 ? r : -ENODATA;
    r = cqe->res;
    io_uring_cqe_seen(uring, cqe);
    return r;
}

Test(fetcher, a_ring_is_of_use_for_its_purpose_only, .timeout = 60)
{
    Crew crew = {.device = open("/dev/null", O_RDWR | O_CLOEXEC)};
    Fetcher fetcher = {0};
    struct io_uring_sqe read = {0}, no_file, poll = {0}, other, command = {0};
    uint64_t one = 1;
    char bytes[8];

    int r = fetcher_init(&fetcher, &crew, 0);
    if (r < 0) { /* io_uring is not to be had here */
        fetcher_clear(&fetcher);
        cr_skip_test("%s", g_strerror(-r));
    }
    struct io_uring *uring = &fetcher.uring;
    unsigned ring = (unsigned)uring->ring_fd;
    cr_assert_eq(io_uring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0), 0);
    cr_assert_eq(write(fetcher.wake, &one, sizeof(one)), (ssize_t)sizeof(one));
    io_uring_prep_poll_add(&poll, 1, POLLIN);
    no_file = poll;
    no_file.fd = fetcher.wake;
    poll.flags = IOSQE_FIXED_FILE;
    other = poll;
    other.flags |= IOSQE_ASYNC;
    io_uring_prep_rw(IORING_OP_URING_CMD, &command, 0, NULL, 0, 0);
    command.flags = IOSQE_FIXED_FILE;
    io_uring_prep_read(&read, 1, bytes, sizeof(bytes), 0);
    read.flags = IOSQE_FIXED_FILE;

    cr_expect_eq(try_operation(uring, &poll), POLLIN);
    cr_expect_neq(try_operation(uring, &command), -EACCES);
    cr_expect_eq(try_operation(uring, &read), -EACCES, "another operation");
    cr_expect_eq(try_operation(uring, &other), -EACCES, "in another way");
    cr_expect_eq(try_operation(uring, &no_file), -EACCES, "another descriptor");
    cr_expect_lt(io_uring_register(ring, IORING_UNREGISTER_FILES, NULL, 0), 0, "other descriptors");
    fetcher_clear(&fetcher);
    close(crew.device);
}

/* ---- answers of other threads ------------------------------------------------------------- */

enum {
    UNIQUE = 7, /* the request that it is working on */
};

/* A fetcher without a ring, that waits for an answer. */
static Fetcher *waiting(void)
{
    Fetcher *fetcher = g_new0(Fetcher, 1);

    g_mutex_init(&fetcher->lock);
    g_cond_init(&fetcher->changed);
    fetcher->payload = g_malloc0(FS_MAX_REQUEST + 1);
    fetcher->unique = UNIQUE;
    return fetcher;
}

static void end(Fetcher *fetcher)
{
    g_free(fetcher->payload);
    g_cond_clear(&fetcher->changed);
    g_mutex_clear(&fetcher->lock);
    g_free(fetcher);
}

Test(fetcher, an_answer_is_for_one_request)
{
    struct fuse_out_header out = {.len = sizeof(out) + 10, .unique = UNIQUE};
    struct iovec parts[] = {{&out, sizeof(out)}, {"01234", 5}, {"56789", 5}};
    Fetcher *fetcher = waiting();

    cr_expect_not(fetcher_answer_own(UNIQUE, parts, 3), "this thread is handling nothing");
    cr_expect_not(fetcher_answer(fetcher, UNIQUE + 1, parts, 3));
    cr_expect_not(fetcher->answered);
    cr_expect(fetcher_answer(fetcher, UNIQUE, parts, 3));
    cr_expect(fetcher->answered);
    cr_expect_eq(memcmp(&fetcher->headers.out, &out, sizeof(out)), 0);
    cr_expect_eq(fetcher->headers.payload_len, 10);
    cr_expect_eq(memcmp(fetcher->payload, "0123456789", 10), 0);
    end(fetcher);
}

/* Nothing is written behind the memory that the kernel reads it from, and no half of it told. */
Test(fetcher, an_answer_that_is_too_long_is_an_error)
{
    struct fuse_out_header out = {.len = sizeof(out) + FS_MAX_REQUEST + 1, .unique = UNIQUE};
    g_autofree char *bytes = g_malloc0(FS_MAX_REQUEST);
    struct iovec parts[] = {{&out, sizeof(out)}, {bytes, FS_MAX_REQUEST}, {"x", 1}};
    Fetcher *fetcher = waiting();

    cr_expect(fetcher_answer(fetcher, UNIQUE, parts, 3));
    cr_expect_eq(fetcher->headers.out.error, -EIO);
    cr_expect_eq(fetcher->headers.payload_len, 0);
    cr_expect_eq(((char *)fetcher->payload)[FS_MAX_REQUEST], 0);
    end(fetcher);
}

/* ---- a kernel that is played -------------------------------------------------------------- */

enum {
    HEADER = sizeof(struct fuse_in_header),
    OP = sizeof(((FetcherHeaders *)NULL)->op_in),
    MOST = FS_MAX_REQUEST,
};

/* What the kernel gives, and the answer that it gets if the request is handled. */
typedef struct Exchange {
    uint32_t len, payload; /* of the request: all of it; what is behind the headers */
    uint32_t answer;       /* bytes */
} Exchange;

typedef struct Outcome {
    bool handled, whole; /* and the request was all there, in its order */
    bool anywhere;       /* the fetcher may be, when it waits again */
    cpu_set_t processors;
    struct fuse_out_header out;
    uint32_t payload;
} Outcome;

/* In place of it, /dev/null takes the commands. Set before the fetcher's thread starts, which alone
 * uses it then. */
static struct {
    Fetcher *fetcher;
    const Exchange *exchanges;
    Outcome *outcomes;
    unsigned n, at;
    struct fuse_in_header given;
    char bytes[MOST];
} kernel;

static void take_answer(Outcome *ret)
{
    ret->out = kernel.fetcher->headers.out;
    ret->payload = kernel.fetcher->headers.payload_len;
    ret->anywhere = kernel.fetcher->anywhere;
    sched_getaffinity(0, sizeof(ret->processors), &ret->processors);
}

static void give_request(const Exchange *e)
{
    FetcherHeaders *headers = &kernel.fetcher->headers;

    kernel.given = (struct fuse_in_header){.len = e->len, .unique = kernel.at};
    headers->in = kernel.given;
    headers->payload_len = e->payload;
    memset(headers->op_in, 'o', OP);
    memset(kernel.fetcher->payload, 'p', MIN(e->payload, MOST));
}

/* The next one; false: there are no more. */
static bool play(void)
{
    if (kernel.at > 0)
        take_answer(&kernel.outcomes[kernel.at - 1]);
    if (kernel.at == kernel.n || kernel.fetcher->crew->error)
        return false;
    give_request(&kernel.exchanges[kernel.at++]);
    return true;
}

static void end_crew(Crew *crew)
{
    g_mutex_lock(&crew->lock);
    crew->state = CREW_GOES;
    g_mutex_unlock(&crew->lock);
}

int __real_io_uring_submit_and_wait(struct io_uring *uring, unsigned n);
int __wrap_io_uring_submit_and_wait(struct io_uring *uring, unsigned n);
int __wrap_io_uring_submit_and_wait(struct io_uring *uring, unsigned n)
{
    if (!kernel.fetcher || play())
        return __real_io_uring_submit_and_wait(uring, n);
    end_crew(kernel.fetcher->crew);
    return -EINTR;
}

static bool is_whole(const char *bytes, const Exchange *e)
{
    size_t op = e->len - HEADER - e->payload, i = HEADER;

    while (i < HEADER + op && bytes[i] == 'o')
        i++;
    while (i < e->len && i >= HEADER + op && bytes[i] == 'p')
        i++;
    return i == e->len && memcmp(bytes, &kernel.given, HEADER) == 0;
}

void __wrap_fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buf);
void __wrap_fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buf)
{
    const Exchange *e = &kernel.exchanges[kernel.at - 1];
    Outcome *outcome = &kernel.outcomes[kernel.at - 1];
    uint64_t unique = kernel.given.unique;
    struct fuse_out_header out = {.len = (uint32_t)sizeof(out) + e->answer, .unique = unique};
    struct iovec parts[] = {{&out, sizeof(out)}, {kernel.bytes, e->answer}};

    (void)session;
    outcome->handled = true;
    outcome->whole = buf->size == e->len && is_whole(buf->mem, e);
    fetcher_answer_own(unique, parts, 2);
}

/* Have a fetcher take all of these, one after the other. Skips the test where there are no rings.
 */
static void run_fetcher(const Exchange *exchanges, Outcome *outcomes, unsigned n, int *ret_home)
{
    Crew crew = {.device = open("/dev/null", O_RDWR | O_CLOEXEC), .starter = pthread_self()};
    Fetcher fetcher = {0};
    int processor = 0;

    g_mutex_init(&crew.lock);
    g_cond_init(&crew.changed);
    crew.state = CREW_WORKS;
    crew.has_processors = sched_getaffinity(0, sizeof(crew.processors), &crew.processors) == 0;
    while (!CPU_ISSET(processor, &crew.processors))
        processor++;
    int r = fetcher_init(&fetcher, &crew, (unsigned)processor);
    kernel.exchanges = exchanges;
    kernel.outcomes = outcomes;
    kernel.n = n;
    kernel.fetcher = &fetcher;
    if (r == 0)
        r = fetcher_start(&fetcher);
    fetcher_clear(&fetcher);
    kernel.fetcher = NULL;
    close(crew.device);
    if (r < 0 || crew.error == -EOPNOTSUPP)
        cr_skip_test("%s", g_strerror(-(r ? r : crew.error)));
    cr_assert_eq(kernel.at, n);
    *ret_home = processor;
}

/* What the kernel says of a request's length is not followed where there is nothing. */
Test(fetcher, a_request_is_as_long_as_its_parts, .timeout = 60)
{
    static const struct {
        Exchange exchange;
        bool sound;
    } cases[] = {
        {{HEADER, 0, 0}, true},
        {{HEADER - 1, 0, 0}, false},
        {{0, 0, 0}, false},
        {{HEADER + OP, 0, 0}, true},
        {{HEADER + OP + 1, 0, 0}, false},
        {{HEADER + 8 + 100, 100, 10}, true},
        {{HEADER + 100, 100, 0}, true},
        {{HEADER + 99, 100, 0}, false},
        {{HEADER + OP + MOST, MOST, MOST}, true},
        {{HEADER + 1 + MOST, MOST + 1, 0}, false},
        {{UINT32_MAX, UINT32_MAX - HEADER, 0}, false},
    };
    Exchange exchanges[G_N_ELEMENTS(cases)];
    Outcome outcomes[G_N_ELEMENTS(cases)] = {0};
    int home;

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++)
        exchanges[i] = cases[i].exchange;
    run_fetcher(exchanges, outcomes, G_N_ELEMENTS(cases), &home);
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        const Outcome *o = &outcomes[i];

        cr_expect_eq(o->handled, cases[i].sound, "case %zu", i);
        cr_expect_eq(o->whole, cases[i].sound, "case %zu", i);
        cr_expect_eq(o->out.unique, i + 1, "case %zu", i);
        cr_expect_eq(o->out.error, cases[i].sound ? 0 : -EIO, "case %zu", i);
        cr_expect_eq(o->payload, exchanges[i].answer, "case %zu", i);
    }
}

/* Large answers, if they go on, and then small ones. */
Test(fetcher, where_it_runs_depends_on_its_last_answers, .timeout = 60)
{
    enum { SMALL = 65535, LARGE = 65536, SPELLS = 11, MOST_ANSWERS = 100 };
    static const struct {
        unsigned n;
        uint32_t answer;
        bool anywhere; /* after these */
    } spells[SPELLS] = {
        {10, SMALL, false}, {7, LARGE, false}, {1, 0, false},     {7, LARGE, false},
        {1, LARGE, true},   {1, SMALL, true},  {9, LARGE, true},  {7, SMALL, true},
        {1, LARGE, true},   {7, 0, true},      {1, SMALL, false},
    };
    Exchange exchanges[MOST_ANSWERS];
    Outcome outcomes[MOST_ANSWERS] = {0};
    cpu_set_t all, one;
    unsigned n = 0;
    int home;

    for (unsigned i = 0; i < SPELLS; i++) {
        for (unsigned k = 0; k < spells[i].n; k++)
            exchanges[n++] = (Exchange){HEADER, 0, spells[i].answer};
    }
    run_fetcher(exchanges, outcomes, n, &home);
    sched_getaffinity(0, sizeof(all), &all);
    CPU_ZERO(&one);
    CPU_SET(home, &one);
    n = 0;
    for (unsigned i = 0; i < SPELLS; i++) {
        const Outcome *last = &outcomes[(n += spells[i].n) - 1];

        cr_expect_eq(last->anywhere, spells[i].anywhere, "spell %u", i);
        cr_expect(CPU_EQUAL(&last->processors, spells[i].anywhere ? &all : &one), "spell %u", i);
    }
}
