/* mounts.c - see mounts.h. */
#include "mounts.h"

#include <errno.h>
#include <libmount.h>
#include <string.h>
#include <unistd.h>

void mount_clear(Mount *mount)
{
    g_clear_pointer(&mount->type, g_free);
}

static struct libmnt_table *read_table(void)
{
    return mnt_new_table_from_file("/proc/self/mountinfo");
}

/* What is mounted on a mount's own root; NULL: nothing. */
static struct libmnt_fs *find_above(struct libmnt_table *table, struct libmnt_fs *below)
{
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    struct libmnt_fs *fs, *found = NULL;

    while (!found && mnt_table_next_fs(table, iter, &fs) == 0) {
        if (fs != below && mnt_fs_get_parent_id(fs) == mnt_fs_get_id(below) &&
            g_strcmp0(mnt_fs_get_target(fs), mnt_fs_get_target(below)) == 0)
            found = fs;
    }
    mnt_free_iter(iter);
    return found;
}

/* The last line need not be the topmost: what is moved to a mountpoint keeps its line. */
static struct libmnt_fs *find_topmost(struct libmnt_table *table, const char *path)
{
    struct libmnt_fs *fs = mnt_table_find_target(table, path, MNT_ITER_BACKWARD), *above = fs;

    while (above) {
        fs = above;
        above = find_above(table, fs);
    }
    return fs;
}

int mounts_find(const char *path, Mount *ret)
{
    struct libmnt_table *table = read_table();
    if (!table)
        return -EIO;

    struct libmnt_fs *fs = find_topmost(table, path);
    if (fs)
        *ret = (Mount){.device = mnt_fs_get_devno(fs), .type = g_strdup(mnt_fs_get_fstype(fs))};
    mnt_unref_table(table);
    return fs ? 0 : -ENOENT;
}

char **mounts_of_device(dev_t device)
{
    struct libmnt_table *table = read_table();
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    struct libmnt_fs *fs;
    g_autoptr(GStrvBuilder) paths = g_strv_builder_new();

    while (table && mnt_table_next_fs(table, iter, &fs) == 0) {
        if (mnt_fs_get_devno(fs) == device && g_str_has_prefix(mnt_fs_get_fstype(fs), "fuse") &&
            find_topmost(table, mnt_fs_get_target(fs)) == fs)
            g_strv_builder_add(paths, mnt_fs_get_target(fs));
    }
    mnt_free_iter(iter);
    mnt_unref_table(table);
    return g_strv_builder_end(paths);
}

static bool lies_in(const char *path, const char *directory)
{
    size_t n = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

    return strncmp(path, directory, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* Whether its type and source are to be believed: everybody may mount, and call that anything. */
static bool is_of_trusted_user(struct libmnt_fs *fs)
{
    char *value;
    size_t len;

    if (mnt_fs_get_option(fs, "user_id", &value, &len) != 0)
        return false;
    guint64 uid = g_ascii_strtoull(value, NULL, 10);
    return uid == 0 || uid == geteuid();
}

/* seen: where it was looked already. */
static bool leads_to(struct libmnt_table *table, const char *from, const char *to, const char *type,
                     GHashTable *seen)
{
    bool found = lies_in(to, from);
    struct libmnt_fs *fs;

    if (found || !g_hash_table_add(seen, (gpointer)from))
        return found;

    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    while (!found && mnt_table_next_fs(table, iter, &fs) == 0) {
        const char *source = mnt_fs_get_source(fs);

        found = source && g_strcmp0(mnt_fs_get_fstype(fs), type) == 0 && is_of_trusted_user(fs) &&
                lies_in(mnt_fs_get_target(fs), from) && leads_to(table, source, to, type, seen);
    }
    mnt_free_iter(iter);
    return found;
}

bool mounts_lead_to(const char *from, const char *to, const char *type)
{
    struct libmnt_table *table = read_table();
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    bool found = table && leads_to(table, from, to, type, seen);

    mnt_unref_table(table);
    return found;
}

bool mounts_has(const char *path, dev_t device)
{
    struct libmnt_table *table = read_table();
    struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
    struct libmnt_fs *fs;
    bool found = false;

    while (table && !found && mnt_table_next_fs(table, iter, &fs) == 0)
        found = mnt_fs_get_devno(fs) == device && g_strcmp0(mnt_fs_get_target(fs), path) == 0;
    mnt_free_iter(iter);
    mnt_unref_table(table);
    return found;
}
