/*
 * openfiles.c - see openfiles.h.
 *
 * Where /proc/PID/fd/FD leads is looked at through the link, so the file is found in whatever mount
 * namespace the process is. The kernel shows locks in /proc/PID/fdinfo/FD, each in a line such as
 *
 *   lock:\t1: OFDLCK  ADVISORY  READ  -1 08:01:131 100 101
 *
 * Of processes that are not ours to look at, the kernel either shows no open files, or (hidepid) it
 * does not even show that they are there. Then it hides the first process, too. From root it may
 * still be a security module that keeps the first process. That one counts as looked at: it starts
 * and ends all others, and is no program that uses an image.
 */
#include "openfiles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    FIRST_PROCESS = 1,
    LONGEST_US = 5 * G_USEC_PER_SEC, /* any user may have files open, which take time */
};

typedef struct Search {
    OpenFileFilter filter;
    const void *data;
    GArray *found;
    gint64 deadline; /* monotonic */
    int err;         /* see openfiles_find() */
} Search;

/* Whether a failure says that what was to be looked at is not there any more. */
static bool is_gone(int err)
{
    return err == ENOENT || err == ESRCH;
}

/* What a line of fdinfo says, if it is of a lock. */
static void note_lock(const char *line, OpenFile *file)
{
    char type[8], kind[8], start[24], end[24];

    if (sscanf(line, "lock: %*s %7s %*s %7s %*s %*s %23s %23s", type, kind, start, end) != 4 ||
        strcmp(type, "FLOCK") == 0)
        return;

    uint64_t first = g_ascii_strtoull(start, NULL, 10);
    uint64_t last = strcmp(end, "EOF") == 0 ? UINT64_MAX : g_ascii_strtoull(end, NULL, 10);
    if (qc_lock_bars_writer(first, last, strcmp(kind, "WRITE") == 0))
        file->bars_writer = true;
    if (qc_lock_tells_writer(first, last))
        file->writes = true;
}

/* -errno: they cannot be looked at. */
static int note_locks(const char *fd, OpenFile *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fdinfo/%s", (int)file->pid, fd);
    FILE *info = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;

    while (info && (errno = 0, getline(&line, &size, info) >= 0))
        note_lock(line, file);
    int r = is_gone(errno) ? 0 : -errno;
    free(line);
    if (info)
        fclose(info);
    return r;
}

/*
 * What is asked for no field is what the kernel knows by itself: a file system that does not answer
 * is not waited for, and one that lets only its owner in (FUSE) does not refuse.
 */
static int look_at(int dirfd, const char *fd, QcFileStat *ret)
{
    struct statx st;

    if (statx(dirfd, fd, AT_STATX_DONT_SYNC, 0, &st) < 0)
        return -errno;
    *ret = (QcFileStat){
        .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
        .ino = st.stx_ino,
        .rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor),
        .mode = st.stx_mode & S_IFMT,
    };
    return 0;
}

/* -errno: it cannot be looked at. */
static int search_file(Search *search, int dirfd, pid_t pid, const char *fd)
{
    OpenFile file = {.pid = pid};
    int r = look_at(dirfd, fd, &file.stat);

    if (r < 0) /* all else is of a file system, and not for want of anything */
        return r == -EACCES || r == -EPERM || qc_is_shortage(r) ? r : 0;
    if (!search->filter(&file.stat, search->data))
        return 0;
    r = note_locks(fd, &file);
    g_array_append_val(search->found, file);
    return r;
}

/* The next number in a directory of /proc; NULL: there are no more, or errno says what is wrong. */
static const char *next_number(DIR *dir)
{
    const struct dirent *entry;

    do {
        errno = 0;
        entry = readdir(dir);
    } while (entry && !g_ascii_isdigit(*entry->d_name));
    return entry ? entry->d_name : NULL;
}

/* Whether it counts that a process could not be looked at. One that has just ended may seem so. */
static bool is_hidden(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d", (int)pid);

    if (pid == FIRST_PROCESS && geteuid() == 0)
        return false;
    return access(path, F_OK) == 0 || !is_gone(errno);
}

static bool is_late(const Search *search)
{
    return g_get_monotonic_time() > search->deadline;
}

/* What keeps us from looking is want of rights, if it is want of nothing else. */
static void note_error(Search *search, int r)
{
    search->err = qc_is_shortage(r) ? r : -EACCES;
}

static void search_process(Search *search, pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    int err = 0;
    const char *fd;

    while (dir && !is_late(search) && (fd = next_number(dir))) {
        int r = search_file(search, dirfd(dir), pid, fd);
        err = r < 0 ? r : err;
    }
    if (err == 0 && !is_gone(errno))
        err = -errno;
    if (err < 0 && is_hidden(pid))
        note_error(search, err);
    if (dir)
        closedir(dir);
}

static void search_all(Search *search, pid_t except)
{
    DIR *proc = opendir("/proc");
    bool has_first = false;
    const char *name;

    while (proc && !is_late(search) && (name = next_number(proc))) {
        pid_t pid = (pid_t)strtol(name, NULL, 10);

        has_first = has_first || pid == FIRST_PROCESS;
        if (pid != except)
            search_process(search, pid);
    }
    if (!has_first || errno)
        note_error(search, -errno);
    if (is_late(search))
        search->err = -ETIMEDOUT;
    if (proc)
        closedir(proc);
}

GArray *openfiles_find(OpenFileFilter filter, const void *data, pid_t except, int *ret_err)
{
    Search search = {.filter = filter,
                     .data = data,
                     .found = g_array_new(FALSE, FALSE, sizeof(OpenFile)),
                     .deadline = g_get_monotonic_time() + LONGEST_US};

    search_all(&search, except);
    if (ret_err)
        *ret_err = search.err;
    return search.found;
}
