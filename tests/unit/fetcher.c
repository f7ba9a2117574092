/* What a fetcher's ring can still do, and what is an answer. */
#include "fetcher.h"

#include "fs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
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
    struct io_uring_sqe read = {0}, no_file, poll = {0};
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
    io_uring_prep_read(&read, 1, bytes, sizeof(bytes), 0);
    read.flags = IOSQE_FIXED_FILE;

    cr_expect_eq(try_operation(uring, &poll), POLLIN);
    cr_expect_eq(try_operation(uring, &read), -EACCES, "another operation");
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
