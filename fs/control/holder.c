/*
 * holder.c - see holder.h.
 *
 * Many processes may have a file open without being the reason that a command is refused: those
 * that are have a lock. The kernel shows locks in /proc/PID/fdinfo/FD, each in a line such as
 *
 *   lock:\t1: OFDLCK  ADVISORY  READ  -1 08:01:131 100 101
 */
#include "holder.h"

#include "text.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum {
    HOLDERS_SHOWN = 4,
};

typedef enum Hold {
    HOLD_NONE,
    HOLD_OPEN,
    HOLD_LOCK, /* one that keeps a writer out */
} Hold;

/* Whether a line of fdinfo is a lock that keeps a writer out. */
static bool is_lock_in_the_way(const char *line)
{
    char type[8], kind[8], start[24], end[24];

    if (sscanf(line, "lock: %*s %7s %*s %7s %*s %*s %23s %23s", type, kind, start, end) != 4 ||
        strcmp(type, "FLOCK") == 0)
        return false;
    return qc_lock_bars_writer(g_ascii_strtoull(start, NULL, 10),
                               strcmp(end, "EOF") == 0 ? UINT64_MAX
                                                       : g_ascii_strtoull(end, NULL, 10),
                               strcmp(kind, "WRITE") == 0);
}

static bool has_lock(const char *pid, const char *fd)
{
    g_autofree char *path = g_build_filename("/proc", pid, "fdinfo", fd, NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return false;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (is_lock_in_the_way(*line))
            return true;
    }
    return false;
}

static bool is_of_file(const char *fd, const QcFileStat *file)
{
    struct statx st;

    /* Not to ask the file's own file system: it may be one that does not answer. */
    return statx(AT_FDCWD, fd, AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 &&
           makedev(st.stx_dev_major, st.stx_dev_minor) == file->dev && st.stx_ino == file->ino;
}

static Hold hold_of(const char *pid, const QcFileStat *file)
{
    g_autofree char *path = g_build_filename("/proc", pid, "fd", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    Hold hold = HOLD_NONE;
    const char *name;

    while (dir && hold < HOLD_LOCK && (name = g_dir_read_name(dir))) {
        g_autofree char *fd = g_build_filename(path, name, NULL);

        if (is_of_file(fd, file))
            hold = has_lock(pid, name) ? HOLD_LOCK : HOLD_OPEN;
    }
    return hold;
}

static char *describe(const char *pid)
{
    g_autofree char *path = g_build_filename("/proc", pid, "comm", NULL);
    g_autofree char *raw = NULL;

    if (!g_file_get_contents(path, &raw, NULL, NULL))
        return g_strdup_printf("process %s", pid);

    g_autofree char *name = text_one_line(g_strchomp(raw));
    return g_strdup_printf("%s (process %s)", name, pid);
}

static void add(GPtrArray *found, const char *pid)
{
    if (found->len < HOLDERS_SHOWN)
        g_ptr_array_add(found, describe(pid));
    else if (found->len == HOLDERS_SHOWN)
        g_ptr_array_add(found, g_strdup("others"));
}

char *holder_find(const QcFileStat *file, pid_t except)
{
    g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
    g_autoptr(GPtrArray) opening = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) locking = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    while (proc && (name = g_dir_read_name(proc))) {
        bool other = g_ascii_isdigit(*name) && strtol(name, NULL, 10) != except;
        Hold hold = other ? hold_of(name, file) : HOLD_NONE;

        if (hold != HOLD_NONE)
            add(hold == HOLD_LOCK ? locking : opening, name);
    }
    GPtrArray *found = locking->len > 0 ? locking : opening;
    const char *verb = found->len == 1 ? "has" : "have";
    if (found->len == 0)
        return NULL;
    g_ptr_array_add(found, NULL);
    g_autofree char *names = g_strjoinv(", ", (char **)found->pdata);
    return g_strdup_printf("%s %s", names, verb);
}
