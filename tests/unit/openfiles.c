/* The open files of all processes: what is found, and why some could not be looked at. */
#include "openfiles.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

/* ---- what the kernel does not show -------------------------------------------------------- */

enum {
    HELD = 987, /* a descriptor of ours */
};

typedef enum Call { NO_CALL, OPENDIR, READDIR, FOPEN, STATX } Call;

/* A call that fails for one name. */
static struct {
    Call call;
    const char *name;
    int error; /* READDIR: 0 for a name that is not listed */
} fault;

static bool is_faulty(Call call, const char *name)
{
    if (fault.call != call || strcmp(fault.name, name) != 0)
        return false;
    errno = fault.error;
    return true;
}

static DIR *proc; /* of all processes, only ours and the first are shown */
static uid_t user;

DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);
DIR *__wrap_opendir(const char *path)
{
    DIR *dir = is_faulty(OPENDIR, path) ? NULL : __real_opendir(path);

    if (strcmp(path, "/proc") == 0)
        proc = dir;
    return dir;
}

static bool is_shown(DIR *dir, const char *name)
{
    g_autofree char *ours = g_strdup_printf("%d", (int)getpid());

    if (fault.call == READDIR && fault.error == 0 && strcmp(fault.name, name) == 0)
        return false;
    return dir != proc || strcmp(name, "1") == 0 || strcmp(name, ours) == 0;
}

struct dirent *__real_readdir64(DIR *dir);
struct dirent *__wrap_readdir64(DIR *dir);
struct dirent *__wrap_readdir64(DIR *dir)
{
    struct dirent *entry;

    do
        entry = __real_readdir64(dir);
    while (entry && !is_shown(dir, entry->d_name));
    return entry && is_faulty(READDIR, entry->d_name) ? NULL : entry;
}

uid_t __wrap_geteuid(void);
uid_t __wrap_geteuid(void)
{
    return user;
}

FILE *__real_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode);
FILE *__wrap_fopen64(const char *path, const char *mode)
{
    return is_faulty(FOPEN, path) ? NULL : __real_fopen64(path, mode);
}

int __real_statx(int dir, const char *name, int flags, unsigned mask, struct statx *ret);
int __wrap_statx(int dir, const char *name, int flags, unsigned mask, struct statx *ret);
int __wrap_statx(int dir, const char *name, int flags, unsigned mask, struct statx *ret)
{
    return is_faulty(STATX, name) ? -1 : __real_statx(dir, name, flags, mask, ret);
}

/* What finding says while a call fails. */
static int find_with(Call call, const char *name, int error)
{
    int err = 0;

    fault.call = call;
    fault.name = name;
    fault.error = error;
    g_autoptr(GArray) found = openfiles_find(is_null, NULL, 0, &err);
    fault.call = NO_CALL;
    return err;
}

/* Else one could seem to be used by nobody. */
Test(openfiles, what_may_not_be_looked_at_is_told)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_autofree char *pid = g_strdup_printf("%d", (int)getpid());
    g_autofree char *files = g_strdup_printf("/proc/%s/fd", pid);
    g_autofree char *held = g_strdup_printf("%d", HELD);
    g_autofree char *locks = g_strdup_printf("/proc/%s/fdinfo/%s", pid, held);

    cr_assert_eq(dup2(null, HELD), HELD);
    cr_assert_eq(0, find_with(NO_CALL, "", 0));
    cr_expect_eq(-EACCES, find_with(OPENDIR, files, EACCES));
    cr_expect_eq(-EACCES, find_with(STATX, held, EACCES));
    cr_expect_eq(-EACCES, find_with(STATX, held, EPERM));
    cr_expect_eq(-EACCES, find_with(FOPEN, locks, EACCES));
    cr_expect_eq(-EACCES, find_with(READDIR, "1", 0), "processes are hidden");
    cr_expect_eq(-EACCES, find_with(READDIR, pid, EIO));
    cr_expect_eq(-ENOMEM, find_with(READDIR, pid, ENOMEM));
    cr_expect_eq(-EACCES, find_with(READDIR, held, EIO));
}

/* A security module may keep it even from root. From others the kernel keeps what is root's. */
Test(openfiles, the_first_process_need_not_be_looked_at_by_root)
{
    cr_expect_eq(0, find_with(OPENDIR, "/proc/1/fd", EACCES));
    user = 1;
    cr_expect_eq(-EACCES, find_with(OPENDIR, "/proc/1/fd", EACCES));
}

/* Else a command would be refused whenever a process ends, or a server does not answer. */
Test(openfiles, what_is_gone_is_not_missed)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_autofree char *files = g_strdup_printf("/proc/%d/fd", (int)getpid());
    g_autofree char *locks = g_strdup_printf("/proc/%d/fdinfo/%d", (int)getpid(), HELD);
    g_autofree char *held = g_strdup_printf("%d", HELD);

    cr_assert_eq(dup2(null, HELD), HELD);
    cr_assert_eq(0, find_with(NO_CALL, "", 0));
    cr_expect_eq(0, find_with(OPENDIR, files, ENOENT));
    cr_expect_eq(0, find_with(STATX, held, ENOENT));
    cr_expect_eq(0, find_with(STATX, held, ESTALE), "a file of a server");
    cr_expect_eq(0, find_with(FOPEN, locks, ENOENT));
}
