/*
 * criterion.h - what the tests use of Criterion, for machines that have no Criterion
 * (-DSNAPTREE_PLAIN_TESTS=ON).
 *
 * Each source of tests is one program, and this is its main(): each test runs in a process of its
 * own, one after another. A failed cr_assert() ends its test, a failed cr_expect() does not. With
 * arguments, only the tests of these names run.
 */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PLAIN_SKIPPED = 77,
};

typedef struct PlainOptions {
    void (*init)(void);
    void (*fini)(void);
    unsigned timeout; /* seconds */
    bool disabled;
} PlainOptions;

typedef struct PlainTest PlainTest;
struct PlainTest {
    const char *suite, *name;
    PlainOptions options;
    void (*run)(void); /* NULL: these are the options of a suite */
    PlainTest *next;
};

static PlainTest *plain_tests, **plain_end = &plain_tests;
static const PlainTest *plain_running;
static bool plain_failed;

static void plain_add(PlainTest *test)
{
    *plain_end = test;
    plain_end = &test->next;
}

/* ---- in the process of a test --------------------------------------------------------------- */

static void plain_finish(int status)
{
    const PlainTest *test = plain_running;

    plain_running = NULL; /* what fails from here on does not come back */
    if (test && test->options.fini)
        test->options.fini();
    fflush(NULL);
    _exit(status);
}

__attribute__((format(printf, 6, 7), unused)) static void plain_check(bool right, bool fatal,
                                                                      const char *file, int line,
                                                                      const char *what,
                                                                      const char *format, ...)
{
    va_list args;

    if (right)
        return;
    fprintf(stderr, "%s:%d: %s:", file, line, what);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    plain_failed = true;
    if (fatal)
        plain_finish(1);
}

static void plain_run(const PlainTest *test)
{
    plain_running = test;
    if (test->options.timeout)
        alarm(test->options.timeout);
    if (test->options.init)
        test->options.init();
    test->run();
    plain_finish(plain_failed);
}

/* ---- all tests ------------------------------------------------------------------------------ */

/* What a test does not say, its suite does. */
static void plain_inherit(PlainTest *test)
{
    for (const PlainTest *suite = plain_tests; suite; suite = suite->next) {
        if (suite->run || strcmp(suite->suite, test->suite) != 0)
            continue;
        if (!test->options.init)
            test->options.init = suite->options.init;
        if (!test->options.fini)
            test->options.fini = suite->options.fini;
        if (!test->options.timeout)
            test->options.timeout = suite->options.timeout;
    }
}

static bool plain_is_wanted(const PlainTest *test, int n, char *const *names)
{
    bool wanted = n == 0;

    if (!test->run)
        return false;
    for (int i = 0; i < n; i++)
        wanted = wanted || strcmp(names[i], test->name) == 0;
    return wanted;
}

/* The exit status of the test; of a signal, 128 more. */
static int plain_try(const PlainTest *test)
{
    int status = 0;

    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        plain_run(test);
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0, skipped = 0;

    for (PlainTest *test = plain_tests; test; test = test->next) {
        if (!plain_is_wanted(test, argc - 1, argv + 1))
            continue;
        plain_inherit(test);
        int status = test->options.disabled ? PLAIN_SKIPPED : plain_try(test);
        if (status == PLAIN_SKIPPED)
            skipped++;
        else if (status == 0)
            passed++;
        else
            failed++;
        if (status)
            printf("%s/%s: %s (%d)\n", test->suite, test->name,
                   status == PLAIN_SKIPPED ? "skipped" : "FAILED", status);
    }
    printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    return failed > 0 || passed + skipped == 0;
}

#define TestSuite(of, ...)                                                                         \
    static PlainTest plain_suite_##of = {.suite = #of, .options = {__VA_ARGS__}};                  \
    __attribute__((constructor)) static void plain_add_suite_##of(void)                            \
    {                                                                                              \
        plain_add(&plain_suite_##of);                                                              \
    }                                                                                              \
    extern int plain_semicolon

#define Test(of, called, ...)                                                                      \
    static void of##_##called##_impl(void);                                                        \
    static PlainTest plain_##of##_##called = {                                                     \
        .suite = #of, .name = #called, .options = {__VA_ARGS__}, .run = of##_##called##_impl};     \
    __attribute__((constructor)) static void plain_add_##of##_##called(void)                       \
    {                                                                                              \
        plain_add(&plain_##of##_##called);                                                         \
    }                                                                                              \
    static void of##_##called##_impl(void)

#define PLAIN(fatal, right, what, ...)                                                             \
    plain_check(right, fatal, __FILE__, __LINE__, what, " " __VA_ARGS__)
#define PLAIN_OP(fatal, a, op, b, ...) PLAIN(fatal, (a)op(b), #a " " #op " " #b, __VA_ARGS__)
#define PLAIN_ARR(fatal, a, b, n, ...) PLAIN(fatal, memcmp(a, b, n) == 0, #a " is " #b, __VA_ARGS__)
#define PLAIN_STR(fatal, a, b, ...)    PLAIN(fatal, strcmp(a, b) == 0, #a " is " #b, __VA_ARGS__)

#define cr_assert(a, ...)              PLAIN(true, (a), #a, __VA_ARGS__)
#define cr_assert_not(a, ...)          PLAIN(true, !(a), "not " #a, __VA_ARGS__)
#define cr_assert_fail(...)            PLAIN(true, false, "failed", __VA_ARGS__)
#define cr_assert_eq(a, b, ...)        PLAIN_OP(true, a, ==, b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...)       PLAIN_OP(true, a, !=, b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...)        PLAIN_OP(true, a, <, b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...)       PLAIN_OP(true, a, <=, b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...)        PLAIN_OP(true, a, >, b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...)       PLAIN_OP(true, a, >=, b, __VA_ARGS__)
#define cr_assert_null(a, ...)         PLAIN_OP(true, a, ==, NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...)     PLAIN_OP(true, a, !=, NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)    PLAIN_STR(true, a, b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) PLAIN_ARR(true, a, b, n, __VA_ARGS__)

#define cr_expect(a, ...)               PLAIN(false, (a), #a, __VA_ARGS__)
#define cr_expect_not(a, ...)           PLAIN(false, !(a), "not " #a, __VA_ARGS__)
#define cr_expect_eq(a, b, ...)         PLAIN_OP(false, a, ==, b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...)        PLAIN_OP(false, a, !=, b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...)         PLAIN_OP(false, a, <, b, __VA_ARGS__)
#define cr_expect_leq(a, b, ...)        PLAIN_OP(false, a, <=, b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...)         PLAIN_OP(false, a, >, b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...)        PLAIN_OP(false, a, >=, b, __VA_ARGS__)
#define cr_expect_null(a, ...)          PLAIN_OP(false, a, ==, NULL, __VA_ARGS__)
#define cr_expect_not_null(a, ...)      PLAIN_OP(false, a, !=, NULL, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...)     PLAIN_STR(false, a, b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...)  PLAIN_ARR(false, a, b, n, __VA_ARGS__)
#define cr_expect_str_empty(a, ...)     PLAIN(false, !*(a), #a " is empty", __VA_ARGS__)
#define cr_expect_str_not_empty(a, ...) PLAIN(false, *(a), #a " is not empty", __VA_ARGS__)

#define cr_log_info(...)  ((void)(printf(__VA_ARGS__), putchar('\n')))
#define cr_skip_test(...) (cr_log_info(__VA_ARGS__), plain_finish(PLAIN_SKIPPED))

#endif
