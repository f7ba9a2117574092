/*
 * fs.c - making and freeing a mount, and the questions that take several of its parts to answer.
 *
 * The order of freeing: commands that still run use all the parts, so serial_free(), which waits
 * for them, comes first. Of the other parts none uses another without a reference, so their order
 * does not matter. Ring and keeper are the daemon's, which frees the ring before the Fs, as the
 * ring's threads handle requests.
 */
#include "fs.h"

#include "passthrough.h"

#include <errno.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
    IDLE_BUFFERS = 4,
    REMEMBERED_NAMES = 1024,
};

/* From Linux 6.5 on. */
static bool kernel_splices_pages(void)
{
    struct utsname system;
    unsigned major = 0, minor = 0;

    if (uname(&system) < 0 || sscanf(system.release, "%u.%u", &major, &minor) != 2)
        return true;
    return major > 6 || (major == 6 && minor >= 5);
}

/* False: a part that cannot do without has no thread. */
static bool start_threads(Fs *fs, QcCache *cache)
{
    fs->images = images_new(fs->gate, cache);
    fs->serial = serial_new(MAX(4, g_get_num_processors()));
    fs->ahead = ahead_pool_new(g_get_num_processors(), AHEAD_IDLE_US);
    return fs->images && fs->serial && fs->ahead;
}

int fs_new(QcGate *gate, Keeper *keeper, int device, int read_ahead, const Options *options,
           Fs **ret)
{
    g_autoptr(QcCache) cache = qc_cache_new((size_t)options->cache_mib << 20);
    if (!cache)
        return -ENOMEM;
    Fs *fs = g_new0(Fs, 1);

    fs->gate = qc_gate_ref(gate);
    fs->nodes = nodes_new();
    fs->listings = listings_new();
    fs->claims = claims_new();
    fs->census = keeper ? NULL : census_new(getpid());
    fs->formerly = formerly_new(REMEMBERED_NAMES);
    fs->journal = journal_new();
    fs->writes = allowance_new(FS_WRITES_EACH, FS_WRITES_ALL);
    fs->buffers = buffers_new(FS_MAX_REQUEST, IDLE_BUFFERS);
    fs->channel = channel_new(g_get_num_processors());
    fs->greeting = greeting_new();
    fs->zeros = g_malloc0(FS_MAX_REQUEST);
    fs->keeper = keeper;
    fs->device = device;
    fs->read_ahead = read_ahead;
    fs->max_read = options->max_read;
    fs->read_only = options->read_only;
    fs->splices_pages = kernel_splices_pages();
    if (!start_threads(fs, cache)) {
        fs_free(fs);
        return -EAGAIN;
    }
    *ret = fs;
    return 0;
}

void fs_free(Fs *fs)
{
    if (!fs)
        return;
    serial_free(fs->serial);
    allowance_free(fs->writes);
    images_free(fs->images);
    nodes_free(fs->nodes);
    listings_free(fs->listings);
    claims_free(fs->claims);
    census_free(fs->census);
    formerly_free(fs->formerly);
    journal_free(fs->journal);
    ahead_pool_free(fs->ahead);
    channel_free(fs->channel);
    greeting_free(fs->greeting);
    buffers_free(fs->buffers);
    g_free((void *)fs->zeros);
    qc_gate_unref(fs->gate);
    if (fs->read_ahead >= 0)
        close(fs->read_ahead);
    g_free(fs);
}

int fs_begin_passthrough(Fs *fs, const char *path, const QcFileStat *file)
{
    if (!greeting_has(fs->greeting, GREETING_PASSTHROUGH) || atomic_load(&fs->passes_nothing))
        return 0;

    int r = fs->keeper ? keeper_begin_passthrough(fs->keeper, path, file)
                       : passthrough_begin(fs->device, fs->gate, path, file);
    if (r == -EPERM || r == -ELOOP) /* the answer would be the same for all other files */
        atomic_store(&fs->passes_nothing, true);
    return r == -ESTALE ? r : MAX(r, 0);
}

void fs_end_passthrough(Fs *fs, int number)
{
    if (fs->keeper)
        keeper_end_passthrough(fs->keeper, number);
    else
        passthrough_end(fs->device, number);
}

int fs_has_foreign_writer(Fs *fs, QcFile *file, const QcFileStat *stat)
{
    uint64_t before, after;
    int r;

    do {
        /* A command of ours holds the writer's locks, and keeps every other writer out. */
        if (claims_busy(fs->claims, stat, &before))
            return 0;
        r = qc_lock_has_writer(file);
        if (r == 0 || claims_busy(fs->claims, stat, &after))
            return 0;
    } while (before != after); /* it may have been one of ours that just ended */
    return r;
}

int fs_find_device_user(Fs *fs, const QcFileStat *stat, bool write, unsigned max_age, char **ret)
{
    gint64 since = g_get_monotonic_time() - max_age * G_TIME_SPAN_MILLISECOND;

    *ret = NULL;
    if (!stat->rdev)
        return 0;
    return fs->keeper ? keeper_find_user(fs->keeper, stat->rdev, write, since, ret)
                      : census_find(fs->census, stat->rdev, write, since, ret);
}

int fs_has_device_writer(Fs *fs, const QcFileStat *stat, unsigned max_age)
{
    g_autofree char *user = NULL;
    int r = fs_find_device_user(fs, stat, false, max_age, &user);

    if (r == 0 || r == -EACCES)
        return 0;
    return user ? 1 : r == -ETIMEDOUT ? -EBUSY : r;
}
