/*
 * What is asked of the kernel: what it offers and we want, and nothing else; all else in libfuse's
 * answer stays what it was. A pipe stands for /dev/fuse.
 */
#include "greeting.h"

#include "fs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

enum {
    EXT = 1 << 30,
    PASSTHROUGH = 1 << 5, /* of flags2 */
    RINGS = 1 << 9,
    FIRST = 7, /* unique of the first request */
};

typedef struct First {
    struct fuse_in_header in;
    struct fuse_init_in init;
} First;

typedef struct Answer {
    struct fuse_out_header out;
    struct fuse_init_out init;
} Answer;

static Greeting *greeting;
static int device[2];

static void start(void)
{
    cr_assert_eq(pipe(device), 0);
    greeting = greeting_new();
}

static void stop(void)
{
    greeting_free(greeting);
    close(device[0]);
    close(device[1]);
}

TestSuite(greeting, .init = start, .fini = stop, .timeout = 60);

/* The kernel's first request, with those flags. */
static void greet(uint32_t flags, uint32_t flags2)
{
    First first = {.in = {.len = sizeof(first), .opcode = FUSE_INIT, .unique = FIRST},
                   .init = {.major = 7, .minor = 38, .flags = flags, .flags2 = flags2}};

    greeting_look_at(greeting, &first, sizeof(first));
}

/* What the kernel gets when libfuse answers that. */
static Answer answer_with(const Answer *given)
{
    Answer copy = *given, got;
    struct iovec parts[] = {{&copy.out, sizeof(copy.out)}, {&copy.init, sizeof(copy.init)}};

    cr_assert(greeting_is_answer(greeting, parts));
    cr_assert_eq(greeting_answer(greeting, device[1], parts, 2), (ssize_t)sizeof(copy));
    cr_assert_not(greeting_is_answer(greeting, parts), "there is one");
    cr_assert_eq(read(device[0], &got, sizeof(got)), (ssize_t)sizeof(got));
    return got;
}

static Answer sound_answer(void)
{
    return (Answer){.out = {.len = sizeof(Answer), .unique = FIRST},
                    .init = {.major = 7,
                             .minor = 38,
                             .max_readahead = 131072,
                             .flags = FUSE_ASYNC_READ | FUSE_MAX_PAGES,
                             .max_background = 64,
                             .max_write = FS_MAX_REQUEST,
                             .max_pages = (uint16_t)(FS_MAX_REQUEST / sysconf(_SC_PAGESIZE))}};
}

/* The word behind flags2: how deep file systems may be stacked. */
static uint32_t depth_of(const Answer *answer)
{
    uint32_t depth;

    memcpy(&depth, (const char *)(&answer->init.flags2 + 1), sizeof(depth));
    return depth;
}

Test(greeting, what_is_wanted_and_offered_is_agreed_on)
{
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_RINGS);
    greeting_want(greeting, GREETING_PASSTHROUGH);
    cr_expect_not(greeting_has(greeting, GREETING_RINGS), "before the answer");
    greet(EXT | FUSE_ASYNC_READ, RINGS | PASSTHROUGH | 1);
    Answer got = answer_with(&given);

    cr_expect_eq(got.init.flags, given.init.flags | EXT);
    cr_expect_eq(got.init.flags2, RINGS | PASSTHROUGH);
    cr_expect_eq(depth_of(&got), 1);
    cr_expect(greeting_has(greeting, GREETING_RINGS));
    cr_expect(greeting_has(greeting, GREETING_PASSTHROUGH));

    got.init.flags = given.init.flags;
    memset(&got.init.flags2, 0, 2 * sizeof(uint32_t));
    cr_expect_eq(memcmp(&got, &given, sizeof(got)), 0, "all else is libfuse's");
}

/* libfuse 3.14 wants it as well, and does not pass it on. */
Test(greeting, requests_in_one_directory_at_once)
{
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_PARALLEL);
    greet(EXT | FUSE_PARALLEL_DIROPS, RINGS | PASSTHROUGH);
    Answer got = answer_with(&given);
    cr_expect_eq(got.init.flags, given.init.flags | FUSE_PARALLEL_DIROPS);
    cr_expect_eq(got.init.flags2, 0);
    cr_expect(greeting_has(greeting, GREETING_PARALLEL));
}

/* Linux 5.16 has a shorter first request, without flags2, but several in one directory. */
Test(greeting, requests_in_one_directory_at_once_with_an_old_kernel)
{
    const size_t len = sizeof(struct fuse_in_header) + 4 * sizeof(uint32_t);
    First first = {.in = {.len = (uint32_t)len, .opcode = FUSE_INIT, .unique = FIRST},
                   .init = {.major = 7, .minor = 35, .flags = FUSE_PARALLEL_DIROPS | EXT}};
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_PARALLEL);
    greeting_want(greeting, GREETING_PASSTHROUGH);
    first.init.flags2 = PASSTHROUGH; /* what lies behind it */
    greeting_look_at(greeting, &first, len);
    Answer got = answer_with(&given);
    cr_expect_eq(got.init.flags, given.init.flags | FUSE_PARALLEL_DIROPS);
    cr_expect_eq(got.init.flags2, 0);
    cr_expect_not(greeting_has(greeting, GREETING_PASSTHROUGH));
}

Test(greeting, what_is_not_offered_is_not_asked_for)
{
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_RINGS);
    greeting_want(greeting, GREETING_PASSTHROUGH);
    greet(EXT, PASSTHROUGH);
    Answer got = answer_with(&given);
    cr_expect_eq(got.init.flags2, PASSTHROUGH);
    cr_expect_not(greeting_has(greeting, GREETING_RINGS));
    cr_expect(greeting_has(greeting, GREETING_PASSTHROUGH));
}

Test(greeting, what_is_not_wanted_is_not_asked_for)
{
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_RINGS);
    greet(EXT, PASSTHROUGH | RINGS);
    Answer got = answer_with(&given);
    cr_expect_eq(got.init.flags2, RINGS);
    cr_expect_eq(depth_of(&got), 0);
    cr_expect_not(greeting_has(greeting, GREETING_PASSTHROUGH));
}

Test(greeting, an_old_kernel_gets_what_libfuse_says)
{
    Answer given = sound_answer();

    greeting_want(greeting, GREETING_RINGS);
    greeting_want(greeting, GREETING_PASSTHROUGH);
    greet(FUSE_ASYNC_READ, RINGS | PASSTHROUGH); /* flags2 means nothing without EXT */
    cr_expect_not(greeting_is_answer(greeting, &(struct iovec){&given.out, sizeof(given.out)}));
    cr_expect_not(greeting_has(greeting, GREETING_RINGS));
}

Test(greeting, rings_hold_no_larger_requests)
{
    Answer more_pages = sound_answer(), more_bytes = more_pages;

    more_pages.init.max_pages++;
    more_bytes.init.max_write++;
    greeting_want(greeting, GREETING_RINGS);
    for (unsigned i = 0; i < 2; i++) {
        greet(EXT, RINGS);
        Answer got = answer_with(i == 0 ? &more_pages : &more_bytes);
        cr_expect_eq(got.init.flags2, 0);
        cr_expect_not(greeting_has(greeting, GREETING_RINGS));
    }
}

/* Nothing is agreed on that the kernel was not told. */
Test(greeting, an_answer_that_the_kernel_does_not_take)
{
    Answer given = sound_answer();
    struct iovec parts[] = {{&given.out, sizeof(given.out)}, {&given.init, sizeof(given.init)}};

    greeting_want(greeting, GREETING_PASSTHROUGH);
    greet(EXT, PASSTHROUGH);
    cr_expect_eq(greeting_answer(greeting, -1, parts, 2), -1);
    cr_expect_not(greeting_has(greeting, GREETING_PASSTHROUGH));
}

/* A notification has no number, as the greeting has none before the first request. */
Test(greeting, a_notification_is_no_answer)
{
    struct fuse_out_header out = {.len = sizeof(out)};

    cr_expect_not(greeting_is_answer(greeting, &(struct iovec){&out, sizeof(out)}));
}

Test(greeting, an_error_is_passed_on)
{
    struct fuse_out_header out = {.len = sizeof(out), .error = -EPROTO, .unique = FIRST}, got;
    struct iovec part = {&out, sizeof(out)};

    greeting_want(greeting, GREETING_PASSTHROUGH);
    greet(EXT, PASSTHROUGH);
    cr_assert(greeting_is_answer(greeting, &part));
    cr_expect_eq(greeting_answer(greeting, device[1], &part, 1), (ssize_t)sizeof(out));
    cr_assert_eq(read(device[0], &got, sizeof(got)), (ssize_t)sizeof(got));
    cr_expect_eq(memcmp(&got, &out, sizeof(got)), 0);
    cr_expect_not(greeting_has(greeting, GREETING_PASSTHROUGH));
}

Test(greeting, other_requests_are_none_of_its_business)
{
    First other = {.in = {.len = sizeof(other), .opcode = FUSE_LOOKUP, .unique = FIRST},
                   .init = {.flags = EXT, .flags2 = PASSTHROUGH}};
    struct fuse_out_header out = {.len = sizeof(out), .unique = FIRST};

    greeting_want(greeting, GREETING_PASSTHROUGH);
    greeting_look_at(greeting, &other, sizeof(other));
    cr_expect_not(greeting_is_answer(greeting, &(struct iovec){&out, sizeof(out)}));
    greet(EXT, PASSTHROUGH);
    out.unique = FIRST + 1;
    cr_expect_not(greeting_is_answer(greeting, &(struct iovec){&out, sizeof(out)}));
    out.unique = 0; /* a notice */
    cr_expect_not(greeting_is_answer(greeting, &(struct iovec){&out, sizeof(out)}));
}
