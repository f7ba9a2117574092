/*
 * watched.c - see watched.h.
 *
 * For other nodes of a device, one of the threads that come by looks once a second, at what may be
 * a second old; but only one of all readers' threads at a time, for a look may take long. The
 * others go by what it saw. The rest does not change.
 */
#include "watched.h"

#include <errno.h>
#include <stdatomic.h>

struct Watched {
    QcFile *file; /* a reference */
    QcFileStat stat;
    bool locked;
    _Atomic gint64 looked; /* a device: when it was looked for writers; monotonic */
    atomic_int written;    /* whether there was one then, as fs_has_device_writer() says */
};

/* 1, 0, -errno: by QEMU's locks. */
static int has_lock_holder(Fs *fs, QcFile *file, const QcFileStat *stat, bool locked)
{
    int r = fs_has_foreign_writer(fs, file, stat);

    return r < 0 && !locked ? 0 : r;
}

int watched_ask(Fs *fs, QcFile *file, const QcFileStat *stat, bool locked, unsigned max_age)
{
    int r = has_lock_holder(fs, file, stat, locked);

    if (r == 0)
        r = fs_has_device_writer(fs, stat, max_age);
    return r > 0 ? -EBUSY : r;
}

Watched *watched_new(QcFile *file, const QcFileStat *stat, bool locked)
{
    Watched *watched = g_new0(Watched, 1);

    watched->file = qc_file_ref(file);
    watched->stat = *stat;
    watched->locked = locked;
    return watched;
}

void watched_free(Watched *watched)
{
    qc_file_unref(watched->file);
    g_free(watched);
}

static int has_device_writer(Watched *watched, Fs *fs)
{
    gint64 age = g_get_monotonic_time() - watched->looked;

    if (age >= FS_RECENT_MS * G_TIME_SPAN_MILLISECOND && !atomic_exchange(&fs->looking, true)) {
        watched->written = fs_has_device_writer(fs, &watched->stat, FS_RECENT_MS);
        watched->looked = g_get_monotonic_time();
        atomic_store(&fs->looking, false);
    }
    return watched->written;
}

int watched_check(Watched *watched, Fs *fs)
{
    int r = has_lock_holder(fs, watched->file, &watched->stat, watched->locked);

    if (r == 0 && watched->stat.rdev)
        r = has_device_writer(watched, fs);
    return r > 0 ? -EBUSY : r;
}
