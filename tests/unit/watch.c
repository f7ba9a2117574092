/* Whether the kernel's word of a changed file reaches those who ask, and only them. */
#include "watch.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

enum {
    MANY = 300, /* more than the table begins with */
};

static QcWatcher *watcher;
static char *dir;

static char *path_of(unsigned i)
{
    return g_strdup_printf("%s/%u", dir, i);
}

static void start(void)
{
    dir = g_dir_make_tmp("watch-XXXXXX", NULL);
    watcher = qc_watcher_new();
    cr_assert(watcher);
}

static void stop(void)
{
    for (unsigned i = 0; i < MANY; i++) {
        g_autofree char *path = path_of(i);

        g_unlink(path);
    }
    g_rmdir(dir);
    g_free(dir);
    qc_watcher_unref(watcher);
}

TestSuite(watch, .init = start, .fini = stop, .timeout = 60);

static QcFile *new_file(unsigned i)
{
    g_autofree char *path = path_of(i);
    QcFile *file;

    cr_assert_eq(0, qc_file_new_fd(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), &file));
    return file;
}

static QcWatch *watch(QcFile *file)
{
    QcWatch *got;

    cr_assert_eq(0, qc_watch_new(watcher, file, &got));
    cr_assert(got);
    cr_assert_eq(qc_watch_watcher(got), watcher);
    return got;
}

static void change(QcFile *file)
{
    cr_assert_eq(0, qc_file_write(file, "x", 1, 0));
}

/* Whether it heard of a change of the file since the count was that. */
static bool heard(const QcWatch *of, uint64_t since)
{
    qc_watcher_count(watcher);
    return qc_watch_last(of) > since;
}

Test(watch, a_change_is_heard_of_once_it_is_made)
{
    g_autoptr(QcFile) a = new_file(0), b = new_file(1);
    QcWatch *of_a = watch(a), *of_b = watch(b);

    for (unsigned i = 0; i < 100; i++) {
        uint64_t before = qc_watcher_count(watcher);

        cr_assert_neq(before, 0);
        cr_assert_not(heard(of_a, before));
        change(a);
        cr_assert(heard(of_a, before));
        cr_assert_not(heard(of_b, before), "another file");
        cr_assert_gt(qc_watcher_count(watcher), before);
    }
    cr_expect_eq(qc_watch_last(of_b), 0);
    qc_watch_unref(of_a);
    qc_watch_unref(of_b);
}

Test(watch, of_one_file_there_is_one)
{
    g_autoptr(QcFile) a = new_file(0), same = new_file(0);
    QcWatch *first = watch(a), *second = watch(same);
    uint64_t before = qc_watcher_count(watcher);

    cr_expect_eq(first, second);
    qc_watch_unref(first);
    change(a);
    cr_expect(heard(second, before), "somebody still wants it");
    qc_watch_unref(second);

    QcWatch *again = watch(a);
    before = qc_watcher_count(watcher);
    cr_expect_not(heard(again, before));
    change(same);
    cr_expect(heard(again, before));
    qc_watch_unref(again);
}

/* What it was told of a file that nobody wants watched any more is of no other. */
Test(watch, the_last_words_of_one_that_is_gone_mean_nobody)
{
    g_autoptr(QcFile) a = new_file(0), b = new_file(1);
    QcWatch *of_a = watch(a), *of_b = watch(b);
    uint64_t before = qc_watcher_count(watcher);

    change(a);
    qc_watch_unref(of_a);
    cr_expect_eq(qc_watcher_count(watcher), before);
    cr_expect_not(heard(of_b, before));
    of_a = watch(a);
    cr_expect_not(heard(of_a, before));
    qc_watch_unref(of_a);
    qc_watch_unref(of_b);
}

Test(watch, many_are_told_apart)
{
    QcFile *files[MANY];
    QcWatch *of[MANY];

    for (unsigned i = 0; i < MANY; i++) {
        files[i] = new_file(i);
        of[i] = watch(files[i]);
    }
    for (unsigned i = 0; i < MANY; i += 7) {
        uint64_t before = qc_watcher_count(watcher);

        change(files[i]);
        qc_watcher_count(watcher);
        for (unsigned k = 0; k < MANY; k++)
            cr_assert_eq(qc_watch_last(of[k]) > before, k == i);
    }
    for (unsigned i = 0; i < MANY; i++) {
        qc_watch_unref(of[i]);
        qc_file_unref(files[i]);
    }
}

/* The kernel keeps so many changes that nobody has asked for, and then says that there were more.
 */
Test(watch, where_some_were_lost_any_may_have_changed)
{
    g_autoptr(QcFile) a = new_file(0), b = new_file(1), quiet = new_file(2);
    g_autofree char *text = NULL;
    QcWatch *of_a = watch(a), *of_b = watch(b), *of_quiet = watch(quiet);
    uint64_t before = qc_watcher_count(watcher);

    cr_assert(g_file_get_contents("/proc/sys/fs/inotify/max_queued_events", &text, NULL, NULL));
    for (guint64 i = g_ascii_strtoull(text, NULL, 10); i > 0; i -= MIN(i, 2)) {
        change(a); /* in turn: two of the same are one */
        change(b);
    }
    cr_expect_not(heard(of_quiet, before), "they were as many as it keeps");
    before = qc_watcher_count(watcher);
    for (guint64 i = 0; i <= g_ascii_strtoull(text, NULL, 10); i += 2) {
        change(a);
        change(b);
    }
    cr_expect(heard(of_quiet, before));
    cr_expect(heard(of_a, before));
    qc_watch_unref(of_a);
    qc_watch_unref(of_b);
    qc_watch_unref(of_quiet);
}

/* A file that has lost its name is told of until nobody has it open. */
Test(watch, a_file_without_a_name_is_still_one)
{
    g_autoptr(QcFile) a = new_file(0);
    g_autofree char *path = path_of(0);
    QcWatch *of_a = watch(a);

    g_unlink(path);
    uint64_t before = qc_watcher_count(watcher);
    change(a);
    cr_expect(heard(of_a, before));
    cr_expect_neq(qc_watch_last(of_a), UINT64_MAX);
    qc_file_unref(g_steal_pointer(&a));
    cr_expect(heard(of_a, qc_watcher_count(watcher)), "nothing will be heard any more");
    cr_expect_eq(qc_watch_last(of_a), UINT64_MAX);
    qc_watch_unref(of_a);
}

Test(watch, what_others_may_write_is_not_watched)
{
    g_autoptr(QcFile) proc = NULL;
    QcWatch *of_proc = (QcWatch *)watcher;

    cr_assert_eq(0, qc_file_new_fd(open("/proc/self/status", O_RDONLY | O_CLOEXEC), &proc));
    cr_expect_eq(0, qc_watch_new(watcher, proc, &of_proc));
    cr_expect_null(of_proc, "of this kind of file system nothing is known");

    g_autoptr(QcFile) a = new_file(0);
    cr_expect_eq(0, qc_watch_new(NULL, a, &of_proc));
    cr_expect_null(of_proc);
}
