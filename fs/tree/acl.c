/* acl.c - see acl.h. */
#include "acl.h"

#include <errno.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* Tags of entries, as in the kernel's linux/posix_acl.h. */
enum {
    TAG_USER = 0x02,
    TAG_GROUP_OBJ = 0x04,
    TAG_GROUP = 0x08,
    TAG_MASK = 0x10,
};

enum {
    MAX_LIST = 65536, /* bytes of an attribute, as Linux has it */
};

static const uint32_t ALL = 07, NOT_THE_OWNERS = 077;

/* The least that any entry of a kind grants, before the mask. */
typedef struct Grants {
    uint32_t group, users, groups, mask;
    bool has_users, has_groups;
} Grants;

static void take(Grants *grants, uint16_t tag, uint32_t perm)
{
    if (tag == TAG_USER) {
        grants->users &= perm;
        grants->has_users = true;
    } else if (tag == TAG_GROUP) {
        grants->groups &= perm;
        grants->has_groups = true;
    } else if (tag == TAG_GROUP_OBJ) {
        grants->group &= perm;
    } else if (tag == TAG_MASK) {
        grants->mask &= perm;
    }
}

/*
 * A user in the file's group may be named in the list as well, and then has what that entry grants;
 * so may any of the others, who may also be in a group that is named.
 */
static uint32_t limited(const Grants *grants, uint32_t mode)
{
    uint32_t group = grants->group & grants->mask, others = mode & ALL;

    if (grants->has_users) {
        group &= grants->users;
        others &= grants->users & grants->mask;
    }
    if (grants->has_groups)
        others &= grants->groups & grants->mask;
    return (mode & ~NOT_THE_OWNERS) | (group & mode >> 3) << 3 | others;
}

uint32_t acl_mode(const void *list, size_t len, uint32_t mode)
{
    struct posix_acl_xattr_header header;
    struct posix_acl_xattr_entry entry;
    Grants grants = {.group = ALL, .users = ALL, .groups = ALL, .mask = ALL};

    if (len < sizeof(header) || (len - sizeof(header)) % sizeof(entry) != 0)
        return mode & ~NOT_THE_OWNERS;
    memcpy(&header, list, sizeof(header));
    if (GUINT32_FROM_LE(header.a_version) != POSIX_ACL_XATTR_VERSION)
        return mode & ~NOT_THE_OWNERS;
    for (size_t at = sizeof(header); at < len; at += sizeof(entry)) {
        memcpy(&entry, (const char *)list + at, sizeof(entry));
        take(&grants, GUINT16_FROM_LE(entry.e_tag), GUINT16_FROM_LE(entry.e_perm));
    }
    return limited(&grants, mode);
}

static bool means_none(int error)
{
    return error == ENODATA || error == EOPNOTSUPP || error == ENOSYS || error == ENOENT;
}

void acl_limit(int fd, QcFileStat *stat)
{
    char path[32], list[1024];
    g_autofree char *large = NULL;
    const char *found = list;

    if (!(stat->mode & NOT_THE_OWNERS) || S_ISLNK(stat->mode))
        return;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t len = getxattr(path, XATTR_NAME_POSIX_ACL_ACCESS, list, sizeof(list));
    if (len < 0 && errno == ERANGE) {
        found = large = g_malloc(MAX_LIST);
        len = getxattr(path, XATTR_NAME_POSIX_ACL_ACCESS, large, MAX_LIST);
    }
    if (len >= 0)
        stat->mode = acl_mode(found, (size_t)len, stat->mode);
    else if (!means_none(errno))
        stat->mode &= ~NOT_THE_OWNERS;
}
