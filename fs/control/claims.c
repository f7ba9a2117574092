/*
 * claims.c - see claims.h.
 *
 * A file is known by device and inode number, so two names of one image share their claims; a block
 * device by its own number, as it may have several nodes.
 * A part is a string: CLAIMS_DISK, or what identifies a snapshot. Invariant: no part is both
 * read by a handle and changed by a command. The kernel tells of a closed file a moment after
 * close(2) has returned; a command gives readers that moment to go away.
 *
 * A pause is a help for readers, and no promise: commands wait for pauses a moment in all, and a
 * pause waits a moment for the command that runs. So no user can hold up commands or requests by
 * reading something that changes all the time.
 *
 * Claims.lock protects everything; nothing else is called while it is held, so it is the last in
 * any order.
 */
#include "claims.h"

#include <errno.h>
#include <string.h>

enum {
    MOMENT_MS = 500,
    PAUSE_MS = 1000,
    REMEMBERED_MS = 60 * 1000, /* far longer than a reader tries */
};

/* "file" stands for claims_key(). */
struct Claims {
    GMutex lock;
    GCond ended;          /* a command, reader or pause; or a command has its locks */
    GHashTable *readers;  /* "file:part" -> GPtrArray of paths, one for each handle; lock */
    GHashTable *commands; /* "file" -> Running; lock */
    GHashTable *paused;   /* "file" -> number of pauses; lock */
    GHashTable *worked;   /* "file" -> when the last command ended (gint64 *, monotonic); lock */
    GHashTable *poisoned; /* set of claims_lasting_key(); lock */
    uint64_t epoch;       /* lock */
};

/* The command that works on a file. */
typedef struct Running {
    bool locked;   /* it has QEMU's writer locks, and keeps them for now */
    char *changes; /* "file:part", or NULL */
} Running;

static void running_free(gpointer data)
{
    Running *running = data;

    g_free(running->changes);
    g_free(running);
}

char *claims_key(const QcFileStat *file)
{
    if (file->rdev)
        return g_strdup_printf("device %" G_GINT64_MODIFIER "x", file->rdev);
    return g_strdup_printf("%" G_GINT64_MODIFIER "x:%" G_GINT64_MODIFIER "x", file->dev, file->ino);
}

static char *part_key(const QcFileStat *file, const char *part)
{
    g_autofree char *key = claims_key(file);

    return g_strdup_printf("%s:%s", key, part);
}

/* What a node of a device is made for is the device. */
char *claims_lasting_key(const QcFileStat *file)
{
    g_autofree char *key = claims_key(file);

    return g_strdup_printf("%s:%" G_GINT64_MODIFIER "x", key, file->rdev ? 0 : file->btime);
}

Claims *claims_new(void)
{
    Claims *claims = g_new0(Claims, 1);

    g_mutex_init(&claims->lock);
    g_cond_init(&claims->ended);
    claims->readers =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_ptr_array_unref);
    claims->commands = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, running_free);
    claims->paused = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    claims->worked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    claims->poisoned = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return claims;
}

void claims_free(Claims *claims)
{
    if (!claims)
        return;
    g_hash_table_unref(claims->readers);
    g_hash_table_unref(claims->commands);
    g_hash_table_unref(claims->paused);
    g_hash_table_unref(claims->worked);
    g_hash_table_unref(claims->poisoned);
    g_cond_clear(&claims->ended);
    g_mutex_clear(&claims->lock);
    g_free(claims);
}

static guint count_of(GHashTable *table, const char *key)
{
    return GPOINTER_TO_UINT(g_hash_table_lookup(table, key));
}

/* Takes the key. */
static void count_up(GHashTable *table, char *key)
{
    g_hash_table_insert(table, key, GUINT_TO_POINTER(count_of(table, key) + 1));
}

static void count_down(GHashTable *table, const char *key)
{
    guint n = count_of(table, key);

    if (n > 1)
        g_hash_table_insert(table, g_strdup(key), GUINT_TO_POINTER(n - 1));
    else
        g_hash_table_remove(table, key);
}

/* NULL: no command works on that file. */
static Running *running_on(const Claims *claims, const char *file)
{
    return g_hash_table_lookup(claims->commands, file);
}

static bool is_read(const Claims *claims, const char *key)
{
    return g_hash_table_contains(claims->readers, key);
}

int claims_hold(Claims *claims, const QcFileStat *file, const char *part, const char *path)
{
    g_autofree char *file_at = claims_key(file);
    char *key = part_key(file, part);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);
    const Running *running = running_on(claims, file_at);

    if (running && g_strcmp0(running->changes, key) == 0) {
        g_free(key);
        return -EBUSY;
    }

    GPtrArray *paths = g_hash_table_lookup(claims->readers, key);
    if (!paths) {
        paths = g_ptr_array_new_with_free_func((GDestroyNotify)g_ref_string_release);
        g_hash_table_insert(claims->readers, key, paths);
    } else {
        g_free(key);
    }
    g_ptr_array_add(paths, g_ref_string_new_intern(path)); /* one string for all of them */
    return 0;
}

void claims_drop(Claims *claims, const QcFileStat *file, const char *part, const char *path)
{
    g_autofree char *key = part_key(file, part);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);
    GPtrArray *paths = g_hash_table_lookup(claims->readers, key);
    guint i;

    if (paths && g_ptr_array_find_with_equal_func(paths, path, g_str_equal, &i))
        g_ptr_array_remove_index_fast(paths, i);
    if (paths && paths->len == 0)
        g_hash_table_remove(claims->readers, key);
    g_cond_broadcast(&claims->ended);
}

static int by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **claims_readers(Claims *claims, const QcFileStat *file, const char *part)
{
    g_autofree char *key = part_key(file, part);
    g_autoptr(GPtrArray) found = g_ptr_array_new();
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);
    GPtrArray *paths = g_hash_table_lookup(claims->readers, key);

    for (guint i = 0; paths && i < paths->len && found->len < CLAIMS_NAMED; i++) {
        if (!g_ptr_array_find_with_equal_func(found, paths->pdata[i], g_str_equal, NULL))
            g_ptr_array_add(found, g_strdup(paths->pdata[i]));
    }
    g_ptr_array_sort(found, by_text);
    g_ptr_array_add(found, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&found), FALSE);
}

bool claims_pause(Claims *claims, const QcFileStat *file, gint64 since)
{
    g_autofree char *key = claims_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    gint64 until = g_get_monotonic_time() + PAUSE_MS * G_TIME_SPAN_MILLISECOND;
    while (running_on(claims, key) && g_cond_wait_until(&claims->ended, &claims->lock, until))
        ;
    const gint64 *worked = g_hash_table_lookup(claims->worked, key);
    if (running_on(claims, key) || !worked || *worked < since)
        return false;
    count_up(claims->paused, g_steal_pointer(&key));
    return true;
}

void claims_resume(Claims *claims, const QcFileStat *file)
{
    g_autofree char *key = claims_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    count_down(claims->paused, key);
    g_cond_broadcast(&claims->ended);
}

/* Wait for the command that runs, and a moment in all for pauses. Lock held. */
static void wait_for_turn(Claims *claims, const char *key)
{
    gint64 until = 0; /* set when only a pause is in the way */
    bool patient = true;

    while (running_on(claims, key) || (patient && count_of(claims->paused, key) > 0)) {
        if (running_on(claims, key)) {
            g_cond_wait(&claims->ended, &claims->lock);
            continue;
        }
        if (until == 0)
            until = g_get_monotonic_time() + PAUSE_MS * G_TIME_SPAN_MILLISECOND;
        patient = g_cond_wait_until(&claims->ended, &claims->lock, until);
    }
}

int claims_begin(Claims *claims, const QcFileStat *file)
{
    char *key = claims_key(file);
    g_autofree char *poison = claims_lasting_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    wait_for_turn(claims, key);
    if (g_hash_table_contains(claims->poisoned, poison)) {
        g_free(key);
        return -EIO;
    }
    g_hash_table_insert(claims->commands, key, g_new0(Running, 1));
    claims->epoch++;
    return 0;
}

void claims_locked(Claims *claims, const QcFileStat *file)
{
    g_autofree char *key = claims_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    running_on(claims, key)->locked = true;
    claims->epoch++;
    g_cond_broadcast(&claims->ended);
}

void claims_unlocking(Claims *claims, const QcFileStat *file)
{
    g_autofree char *key = claims_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    running_on(claims, key)->locked = false;
}

int claims_change(Claims *claims, const QcFileStat *file, const char *part)
{
    g_autofree char *key = claims_key(file);
    g_autofree char *changed = part_key(file, part);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    gint64 until = g_get_monotonic_time() + MOMENT_MS * G_TIME_SPAN_MILLISECOND;
    while (is_read(claims, changed) && g_cond_wait_until(&claims->ended, &claims->lock, until))
        ;
    if (is_read(claims, changed))
        return -EBUSY;

    Running *running = running_on(claims, key);
    g_free(running->changes);
    running->changes = g_steal_pointer(&changed);
    return 0;
}

static gboolean is_long_ago(gpointer key, gpointer time, gpointer now)
{
    (void)key;
    return *(gint64 *)now - *(gint64 *)time > REMEMBERED_MS * G_TIME_SPAN_MILLISECOND;
}

/* Note that a command has ended, and forget of which that is long ago. Lock held. */
static void remember(Claims *claims, const char *key)
{
    gint64 now = g_get_monotonic_time();

    g_hash_table_foreach_remove(claims->worked, is_long_ago, &now);
    g_hash_table_insert(claims->worked, g_strdup(key), g_memdup2(&now, sizeof(now)));
}

void claims_end(Claims *claims, const QcFileStat *file, bool poison)
{
    g_autofree char *key = claims_key(file);
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);

    g_hash_table_remove(claims->commands, key);
    remember(claims, key);
    if (poison)
        g_hash_table_add(claims->poisoned, claims_lasting_key(file));
    claims->epoch++;
    g_cond_broadcast(&claims->ended);
}

bool claims_busy(Claims *claims, const QcFileStat *file, uint64_t *ret_epoch)
{
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&claims->lock);
    *ret_epoch = claims->epoch;
    if (g_hash_table_size(claims->commands) == 0) /* as a rule; asked for each read */
        return false;

    g_autofree char *key = claims_key(file);
    const Running *running;
    while ((running = running_on(claims, key)) && !running->locked)
        g_cond_wait(&claims->ended, &claims->lock);
    *ret_epoch = claims->epoch;
    return running != NULL;
}
