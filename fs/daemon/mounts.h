/* mounts.h - the kernel's table of mounts, as this process sees it. */
#ifndef SNAPTREE_MOUNTS_H
#define SNAPTREE_MOUNTS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>

/* A file system at a mountpoint. */
typedef struct Mount {
    dev_t device; /* st_dev of its files */
    char *type;   /* "ext4", "fuse.snaptree" */
} Mount;

void mount_clear(Mount *mount);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Mount, mount_clear)

/*
 * The topmost mount at a path that is absolute and has no symbolic links. -ENOENT: there is none;
 * -EIO: the table cannot be read. The file system itself is asked nothing: it may not answer.
 */
int mounts_find(const char *path, Mount *ret);

/*
 * Where a FUSE file system is mounted, whatever paths these places have by now, if nothing is
 * mounted over it there (g_strfreev).
 */
char **mounts_of_device(dev_t device);

/*
 * Whether the path to lies in the directory from, or in one that is shown in there, if each file
 * system of that type shows the directory that is its source. By the table alone.
 */
bool mounts_lead_to(const char *from, const char *to, const char *type);

/* Whether a file system is mounted at the path, on top or beneath others. */
bool mounts_has(const char *path, dev_t device);

#endif
