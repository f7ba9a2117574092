#include "mounts.h"

#include <errno.h>
#include <libmount.h>

void mount_clear(Mount *mount)
{
    g_clear_pointer(&mount->type, g_free);
}

int mounts_find(const char *path, Mount *ret)
{
    struct libmnt_table *table = mnt_new_table_from_file("/proc/self/mountinfo");
    if (!table)
        return -EIO;

    struct libmnt_fs *fs = mnt_table_find_target(table, path, MNT_ITER_BACKWARD);
    if (fs)
        *ret = (Mount){.device = mnt_fs_get_devno(fs), .type = g_strdup(mnt_fs_get_fstype(fs))};
    mnt_unref_table(table);
    return fs ? 0 : -ENOENT;
}
