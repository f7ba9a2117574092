/*
 * fstype.c - what the kind of the file system that a file lies on says of the file.
 */
#include "qcow-file.h"
#include <linux/magic.h>
#include <sys/vfs.h>

#define ZFS_SUPER_MAGIC 0x2fc12fc1

/* What kind of file system a file is on (the number is its magic); 0 when that is not known. */
static unsigned long file_system_of(const QcFile *file)
{
    struct statfs st;
    int fd = qc_file_fd(file);
    return fd < 0 || fstatfs(fd, &st) < 0 ? 0 : (unsigned long)st.f_type & UINT32_MAX;
}

bool qc_file_is_local(const QcFile *file)
{
    switch (file_system_of(file)) {
    case EXT4_SUPER_MAGIC: /* and ext2, ext3 */
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case F2FS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case ZFS_SUPER_MAGIC &UINT32_MAX:
        return true;
    default:
        return false;
    }
}

bool qc_file_has_our_clock(const QcFile *file)
{
    return qc_file_fd(file) < 0 || qc_file_is_local(file) ||
           file_system_of(file) == OVERLAYFS_SUPER_MAGIC;
}

/* On tmpfs, a page that is read through a mapping can be written from then on, and nothing notices.
 * An overlay may have its files on one; it does not tell. */
bool qc_file_times_mapped_writes(const QcFile *file)
{
    unsigned long type = file_system_of(file);
    return type != TMPFS_MAGIC && type != OVERLAYFS_SUPER_MAGIC;
}
