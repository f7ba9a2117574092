/* What libfuse and GLib say goes to our log, but not the same thing a thousand times a second. */
#include "log.h"

#include <criterion/criterion.h>
#include <fuse_log.h>
#include <syslog.h>

static void count(void *data, int priority, const char *line)
{
    GPtrArray *lines = data;

    cr_expect_eq(priority, LOG_ERR);
    g_ptr_array_add(lines, g_strdup(line));
}

Test(log, libfuse_does_not_repeat_itself)
{
    static const char threads[] = "no thread: %s\n", memory[] = "no memory\n";
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    log_to_sink(count, lines);
    log_catch_libraries();
    for (unsigned i = 0; i < 1000; i++)
        fuse_log(FUSE_LOG_ERR, threads, "short");
    fuse_log(FUSE_LOG_ERR, memory);
    fuse_log(FUSE_LOG_ERR, threads, "short");
    cr_assert_eq(lines->len, 3);
    cr_expect_str_eq(lines->pdata[0], "no thread: short");
    cr_expect_str_eq(lines->pdata[1], "no memory");
}

/* The daemon's standard error is closed when GLib ends the process. */
Test(log, why_glib_ends_the_process)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    log_to_sink(count, lines);
    log_catch_libraries();
    g_log("GLib", G_LOG_LEVEL_WARNING, "creating thread '%s': no more", "watch");
    cr_assert_eq(lines->len, 1);
    cr_expect_str_eq(lines->pdata[0], "creating thread 'watch': no more");
    g_log("GLib", G_LOG_LEVEL_DEBUG, "as it goes");
    g_log("GLib", G_LOG_LEVEL_INFO, "by the way");
    cr_expect_eq(lines->len, 1, "what is for those who work on GLib");
}

Test(log, nothing_that_a_terminal_obeys)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);

    log_to_sink(count, lines);
    log_error("a%sb\n", "\n\x1b[2J\xc2\x9b");
    cr_assert_eq(lines->len, 1);
    cr_expect_str_eq(lines->pdata[0], "a\\x0a\\x1b[2J\\xc2\\x9bb");
}
