/*
 * tune.c - see tune.h.
 *
 * Nothing but limits that are far too low is reported: a limit that cannot be raised stays as it
 * was, and reading is slower, or fewer files can be open.
 */
#include "tune.h"

#include "log.h"

#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    EXPECTED_FILES = 4096,
    LEAST_FILES = 32,
    LEAST_STACK_KIB = 64, /* of a thread */
};

static const char read_ahead_kib[] = "1024";

bool tune_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (limit.rlim_max < LEAST_FILES) {
            log_error("only %u files may be open (ulimit -n), which is too few; it takes %d",
                      (unsigned)limit.rlim_max, LEAST_FILES);
            return false;
        }
    }
    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur / 1024 < LEAST_STACK_KIB) {
        log_error("only %u KiB of stack are allowed (ulimit -s), which is too little; it takes %d",
                  (unsigned)(limit.rlim_cur / 1024), LEAST_STACK_KIB);
        return false;
    }
    return true;
}

void tune_file_table(int fd)
{
    struct rlimit limit;
    int highest = EXPECTED_FILES - 1;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < EXPECTED_FILES)
        highest = (int)limit.rlim_cur - 1;
    int high = fcntl(fd, F_DUPFD_CLOEXEC, highest);
    if (high >= 0)
        close(high);
}

int tune_open_read_ahead(dev_t device)
{
    g_autofree char *path =
        g_strdup_printf("/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));

    return device ? open(path, O_WRONLY | O_CLOEXEC) : -1;
}

static gpointer set_read_ahead(gpointer data)
{
    int fd = GPOINTER_TO_INT(data);
    ssize_t written = fd < 0 ? 0 : write(fd, read_ahead_kib, strlen(read_ahead_kib));

    (void)written;
    return NULL;
}

void tune_read_ahead(int fd)
{
    static GOnce once = G_ONCE_INIT;

    g_once(&once, set_read_ahead, GINT_TO_POINTER(fd));
}
