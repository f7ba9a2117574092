/*
 * acl.h - what a mode says of a file that has an access control list as well.
 *
 * The middle bits of such a mode are the most that any entry of the list grants, not what the group
 * may. The tree has modes only. So the mode here is one that lets no user do what the list does
 * not. Owner's bits stay; group and others get only what every user who might be meant has.
 */
#ifndef SNAPTREE_ACL_H
#define SNAPTREE_ACL_H

#include <qcow-file.h>

/*
 * The mode for a list as the extended attribute system.posix_acl_access has it (acl(5)). One that
 * makes no sense leaves rights to the owner only.
 */
uint32_t acl_mode(const void *list, size_t len, uint32_t mode);

/* Look for a list at a file, open or with O_PATH, and limit the mode of its stat. */
void acl_limit(int fd, QcFileStat *stat);

#endif
