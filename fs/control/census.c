/*
 * census.c - see census.h.
 *
 * To look at all that all processes have open takes a while, many milliseconds where many machines
 * run, and more where a user has many files open on purpose. So one look is at all devices, and
 * answers all questions that were asked before it began.
 *
 * Census.lock protects everything. It is held while the processes are looked at: whoever comes
 * meanwhile would have to wait for a look in any case.
 */
#include "census.h"

#include "holder.h"

#include <errno.h>
#include <sys/stat.h>

struct Census {
    pid_t except;
    GMutex lock;
    GArray *devices; /* of OpenFile: what was found last; NULL: nothing has been looked at; lock */
    int err;         /* of that look: it was not at all processes; lock */
    gint64 time;     /* when that look began, monotonic; lock */
};

Census *census_new(pid_t except)
{
    Census *census = g_new0(Census, 1);

    census->except = except;
    g_mutex_init(&census->lock);
    return census;
}

void census_free(Census *census)
{
    if (!census)
        return;
    g_clear_pointer(&census->devices, g_array_unref);
    g_mutex_clear(&census->lock);
    g_free(census);
}

static bool is_device(const QcFileStat *stat, const void *data)
{
    (void)data;
    return S_ISBLK(stat->mode);
}

/* Lock held. */
static void look(Census *census)
{
    g_clear_pointer(&census->devices, g_array_unref);
    census->time = g_get_monotonic_time();
    census->devices = openfiles_find(is_device, NULL, census->except, &census->err);
}

int census_find(Census *census, uint64_t device, bool write, gint64 since, char **ret)
{
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(OpenFile));
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&census->lock);

    if (!census->devices || census->time < since)
        look(census);
    for (guint i = 0; i < census->devices->len; i++) {
        const OpenFile *file = &g_array_index(census->devices, OpenFile, i);

        if (file->stat.rdev == device && (write ? file->bars_writer : file->writes))
            g_array_append_val(found, *file);
    }
    *ret = holder_names(found);
    if (*ret)
        return -EBUSY;
    return census->err;
}
