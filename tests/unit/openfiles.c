/* The open files of all processes: what is found, and why some could not be looked at. */
#include "openfiles.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

static bool is_null(const QcFileStat *stat, const void *data)
{
    QcFileStat null;

    (void)data;
    cr_assert_eq(qc_file_stat_at(AT_FDCWD, "/dev/null", 0, &null), 0);
    return stat->rdev == null.rdev;
}

static bool has_process(const GArray *files, pid_t pid)
{
    for (guint i = 0; i < files->len; i++)
        if (g_array_index(files, OpenFile, i).pid == pid)
            return true;
    return false;
}

Test(openfiles, ours_are_found)
{
    int err = 0, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_autoptr(GArray) all = openfiles_find(is_null, NULL, 0, &err);
    g_autoptr(GArray) others = openfiles_find(is_null, NULL, getpid(), NULL);

    cr_expect(has_process(all, getpid()));
    cr_expect_not(has_process(others, getpid()));
    close(fd);
}

static bool is_same(const QcFileStat *stat, const void *file)
{
    return qc_file_same_file(stat, file);
}

/* The locks of flock(2) are of whole files, and none of QEMU's. */
Test(openfiles, only_locks_of_qemus_kind_count)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp(NULL, &name, NULL);
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    QcFileStat stat;

    cr_assert_eq(qc_file_stat_at(fd, "", AT_EMPTY_PATH, &stat), 0);
    for (unsigned locked = 0; locked < 2; locked++) {
        cr_assert_eq(locked ? fcntl(fd, F_OFD_SETLK, &all) : flock(fd, LOCK_EX), 0);
        g_autoptr(GArray) found = openfiles_find(is_same, &stat, 0, NULL);
        cr_assert_eq(found->len, 1);
        cr_expect_eq(g_array_index(found, OpenFile, 0).bars_writer, locked);
    }
    unlink(name);
    close(fd);
}

/* That a consistent state is read is in no writer's way, unless nobody else may say so. */
Test(openfiles, exclusive_locks_count)
{
    g_autofree char *name = NULL;
    int fd = g_file_open_tmp(NULL, &name, NULL);
    QcFileStat stat;

    cr_assert_eq(qc_file_stat_at(fd, "", AT_EMPTY_PATH, &stat), 0);
    for (unsigned exclusive = 0; exclusive < 2; exclusive++) {
        struct flock byte = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_start = 100, .l_len = 1};

        cr_assert_eq(fcntl(fd, F_OFD_SETLK, &byte), 0);
        g_autoptr(GArray) found = openfiles_find(is_same, &stat, 0, NULL);
        cr_assert_eq(found->len, 1);
        cr_expect_eq(g_array_index(found, OpenFile, 0).bars_writer, exclusive);
    }
    unlink(name);
    close(fd);
}

/* That is no want of rights, which another user would have. */
Test(openfiles, without_a_descriptor_to_look_with)
{
    struct rlimit limit;
    int err, held[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    cr_assert_geq(null, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(held); i++)
        held[i] = open("/proc", O_RDONLY | O_CLOEXEC);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)held[1] + 1;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (unsigned spare = 0; spare < 3; spare++) { /* for /proc, a process, the locks of a file */
        if (spare > 0)
            close(held[2 - spare]);
        err = 0;
        g_autoptr(GArray) found = openfiles_find(is_null, NULL, 0, &err);
        cr_expect_eq(err, -EMFILE, "with %u: %d", spare, err);
    }
}
