/*
 * named.h - files with an access control list that names users, so that the group's bits of the
 * mode are not the group's.
 */
#ifndef TESTS_NAMED_H
#define TESTS_NAMED_H

#include <errno.h>
#include <glib.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <sys/xattr.h>

enum {
    NAMED_MOST = 200, /* whose list takes more than 1,024 bytes */
};

/*
 * Let the owner and n named users do everything with a file, its group what the bits say, and
 * others nothing: its mode is 0770. False: there are no lists on this file system.
 */
static inline gboolean name_users(const char *path, unsigned n, guint16 group)
{
    struct {
        struct posix_acl_xattr_header header;
        struct posix_acl_xattr_entry entries[NAMED_MOST + 4];
    } list = {{GUINT32_TO_LE(POSIX_ACL_XATTR_VERSION)}, {{0}}};
    unsigned at = 0;
    const guint32 none = G_MAXUINT32;

    g_assert(n <= NAMED_MOST);
    list.entries[at++] =
        (struct posix_acl_xattr_entry){GUINT16_TO_LE(ACL_USER_OBJ), GUINT16_TO_LE(7), none};
    for (guint32 i = 0; i < n; i++)
        list.entries[at++] = (struct posix_acl_xattr_entry){
            GUINT16_TO_LE(ACL_USER), GUINT16_TO_LE(7), GUINT32_TO_LE(60000 + i)};
    list.entries[at++] =
        (struct posix_acl_xattr_entry){GUINT16_TO_LE(ACL_GROUP_OBJ), GUINT16_TO_LE(group), none};
    list.entries[at++] =
        (struct posix_acl_xattr_entry){GUINT16_TO_LE(ACL_MASK), GUINT16_TO_LE(7), none};
    list.entries[at++] = (struct posix_acl_xattr_entry){GUINT16_TO_LE(ACL_OTHER), 0, none};
    if (setxattr(path, XATTR_NAME_POSIX_ACL_ACCESS, &list,
                 sizeof(list.header) + at * sizeof(list.entries[0]), 0) == 0)
        return TRUE;
    g_assert(errno == EOPNOTSUPP);
    return FALSE;
}

#endif
